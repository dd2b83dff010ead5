//! The demo's promises: every row of the five files is accounted for, and its
//! three endpoints answer what the files say. The answers to expect are computed
//! here from the files, row by row, and not by ClickHouse.

use anyhow::{Context as _, Result, ensure};
use aviary_e2e::checkout::repository;
use aviary_e2e::cluster::Layout;
use aviary_e2e::demo::dataset::{self, FILES};
use aviary_e2e::support::{Scene, run};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Averages are rounded to two digits, by rules that differ for exact halves.
const TOLERANCE: f64 = 0.006;

#[tokio::test(flavor = "multi_thread")]
async fn the_flights_of_2013_are_all_there_and_the_endpoints_count_them() -> Result<()> {
    run("flights", |scene| async move {
        apply_samples(&scene).await?;
        let loader = scene.token_value("loader").await?;
        let reader = scene.token_value("reader").await?;
        let folder = dataset::folder(Layout::from_environment().cache())?;
        for file in &FILES {
            send(&scene, &loader, &folder, file).await?;
        }
        for pipe in ["carrier_delays", "delay_by_wind", "busiest_days"] {
            scene.gateway.serves(pipe, &reader).await?;
        }

        let files = Files::read(&folder)?;
        let year = Year::of(&files)?;
        let every = year.carrier_delays(|_| true);
        same(&scene, &reader, "carrier_delays", "", &every).await?;
        let july = year.carrier_delays(|flight| flight.month == "7" && flight.origin == "JFK");
        same(
            &scene,
            &reader,
            "carrier_delays",
            "month=7&origin=JFK",
            &july,
        )
        .await?;
        same(&scene, &reader, "delay_by_wind", "", &year.delay_by_wind()).await?;
        let days = year.busiest_days();
        same(&scene, &reader, "busiest_days", "", &days[..10]).await?;
        same(&scene, &reader, "busiest_days", "limit=3", &days[..3]).await?;

        // Who sends a small table again has it twice until ClickHouse merges; nobody counts twice.
        let airlines = FILES.iter().find(|file| file.data_source == "airlines");
        for _ in 0..2 {
            send(&scene, &loader, &folder, airlines.context("no airlines")?).await?;
        }
        same(&scene, &reader, "carrier_delays", "", &every).await
    })
    .await
}

/// The objects of `config/samples/flights`, in the test's namespace.
async fn apply_samples(scene: &Scene) -> Result<()> {
    let samples = repository().join("config/samples/flights");
    for name in ["workspace", "data-sources", "pipes", "tokens"] {
        let manifest = std::fs::read_to_string(samples.join(format!("{name}.yaml")))?;
        let manifest = manifest.replace("namespace: demo\n", "namespace: {namespace}\n");
        scene.apply(&manifest).await?;
    }
    for file in &FILES {
        scene.ready("DataSource", file.data_source).await?;
    }
    for pipe in ["carrier-delays", "delay-by-wind", "busiest-days"] {
        scene.ready("Pipe", pipe).await?;
    }
    for token in ["loader", "reader"] {
        scene.ready("AccessToken", token).await?;
    }
    Ok(())
}

/// Sends a file; every one of its rows fits.
async fn send(scene: &Scene, token: &str, folder: &Path, file: &dataset::File) -> Result<()> {
    scene.gateway.takes(file.data_source, token).await?;
    let before = scene.count("flights", file.data_source).await?;
    let content = std::fs::read(folder.join(format!("{}.csv", file.data_source)))?;
    let taken = scene.gateway.csv(file.data_source, token, content).await?;
    ensure!(taken == (file.rows, 0), "{}: {taken:?}", file.data_source);
    let there = scene.count("flights", file.data_source).await?;
    // ReplacingMergeTree may have merged rows away that were sent before.
    ensure!(
        there == before + file.rows || (before > 0 && there >= file.rows),
        "{}: {there} rows, {before} before",
        file.data_source
    );
    let quarantine = format!("{}_quarantine", file.data_source);
    let quarantined = scene.count("flights", &quarantine).await?;
    ensure!(quarantined == 0, "{quarantine}: {quarantined} rows");
    Ok(())
}

/// A row to expect: texts and whole numbers must be equal, averages nearly.
type Row = Vec<(&'static str, Cell)>;

#[derive(Clone, Debug)]
enum Cell {
    Text(String),
    Whole(u64),
    Average(Option<f64>),
}

impl Cell {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Text(text) => value == text,
            Self::Whole(number) => value.as_u64() == Some(*number),
            Self::Average(None) => value.is_null(),
            Self::Average(Some(number)) => value
                .as_f64()
                .is_some_and(|value| (value - number).abs() <= TOLERANCE),
        }
    }
}

async fn same(scene: &Scene, token: &str, pipe: &str, query: &str, rows: &[Row]) -> Result<()> {
    let answer = scene.gateway.rows(pipe, query, token).await?;
    ensure!(
        answer.len() == rows.len(),
        "{pipe}?{query}: {} rows, expected {}",
        answer.len(),
        rows.len()
    );
    for (found, expected) in answer.iter().zip(rows) {
        let alike = expected.iter().all(|(name, cell)| cell.is(&found[*name]));
        let whole = found
            .as_object()
            .is_some_and(|found| found.len() == expected.len());
        ensure!(
            alike && whole,
            "{pipe}?{query}: {found}, expected {expected:?}"
        );
    }
    Ok(())
}

/// The files that the endpoints are about.
struct Files {
    flights: String,
    airlines: String,
    weather: String,
}

/// What is in them.
struct Year<'a> {
    flights: Vec<Flight<'a>>,
    /// Names by codes.
    airlines: HashMap<&'a str, &'a str>,
    /// Speeds by airport and hour.
    winds: HashMap<(&'a str, &'a str), Vec<f64>>,
}

struct Flight<'a> {
    year: &'a str,
    month: &'a str,
    day: &'a str,
    dep_time: Option<f64>,
    dep_delay: Option<f64>,
    arr_delay: Option<f64>,
    carrier: &'a str,
    origin: &'a str,
    time_hour: &'a str,
}

/// Counts, and the average of what is known.
#[derive(Default)]
struct Sum {
    rows: u64,
    cancelled: u64,
    known: u64,
    total: f64,
}

impl Sum {
    fn add(&mut self, value: Option<f64>) {
        self.rows += 1;
        if let Some(value) = value {
            self.known += 1;
            self.total += value;
        }
    }

    fn average(&self) -> Cell {
        Cell::Average((self.known > 0).then(|| self.total / self.known as f64))
    }
}

impl Files {
    fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        Ok(Self {
            flights: read("flights.csv")?,
            airlines: read("airlines.csv")?,
            weather: read("weather.csv")?,
        })
    }
}

impl<'a> Year<'a> {
    fn of(files: &'a Files) -> Result<Self> {
        let airlines = columns(&files.airlines, ["carrier", "name"])?;
        let mut winds: HashMap<_, Vec<f64>> = HashMap::new();
        let weather = columns(&files.weather, ["origin", "time_hour", "wind_speed"])?;
        for [origin, time_hour, wind_speed] in weather {
            if let Some(speed) = number(wind_speed) {
                winds.entry((origin, time_hour)).or_default().push(speed);
            }
        }
        Ok(Self {
            flights: flights(&files.flights)?,
            airlines: airlines
                .into_iter()
                .map(|[carrier, name]| (carrier, name))
                .collect(),
            winds,
        })
    }

    fn carrier_delays(&self, chosen: impl Fn(&Flight) -> bool) -> Vec<Row> {
        let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
        for flight in self.flights.iter().filter(|flight| chosen(flight)) {
            let sum = sums.entry(flight.carrier).or_default();
            sum.add(flight.arr_delay);
            sum.cancelled += u64::from(flight.dep_time.is_none());
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        // Stable, so that carriers with as many flights stay in the order of their codes.
        sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.rows));
        let row = |(carrier, sum): (&str, Sum)| {
            let name = self.airlines.get(carrier).copied().unwrap_or_default();
            vec![
                ("carrier", Cell::Text(carrier.to_owned())),
                ("name", Cell::Text(name.to_owned())),
                ("flights", Cell::Whole(sum.rows)),
                ("cancelled", Cell::Whole(sum.cancelled)),
                ("avg_arr_delay", sum.average()),
            ]
        };
        sums.into_iter().map(row).collect()
    }

    fn delay_by_wind(&self) -> Vec<Row> {
        let mut bands: BTreeMap<u64, Sum> = BTreeMap::new();
        for flight in &self.flights {
            // A join gives a flight once for each row of its hour.
            let winds = self.winds.get(&(flight.origin, flight.time_hour));
            for speed in winds.into_iter().flatten() {
                let band = (speed / 5.0) as u64 * 5;
                bands.entry(band).or_default().add(flight.dep_delay);
            }
        }
        let row = |(band, sum): (u64, Sum)| {
            vec![
                ("band", Cell::Whole(band)),
                ("flights", Cell::Whole(sum.rows)),
                ("avg_dep_delay", sum.average()),
            ]
        };
        bands.into_iter().map(row).collect()
    }

    fn busiest_days(&self) -> Vec<Row> {
        let mut days: BTreeMap<String, u64> = BTreeMap::new();
        for flight in &self.flights {
            let day = format!("{}-{:0>2}-{:0>2}", flight.year, flight.month, flight.day);
            *days.entry(day).or_default() += 1;
        }
        let mut days: Vec<_> = days.into_iter().collect();
        days.sort_by_key(|(_, flights)| std::cmp::Reverse(*flights));
        let row =
            |(day, flights)| vec![("day", Cell::Text(day)), ("flights", Cell::Whole(flights))];
        days.into_iter().map(row).collect()
    }
}

fn flights(text: &str) -> Result<Vec<Flight<'_>>> {
    let names = [
        "year",
        "month",
        "day",
        "dep_time",
        "dep_delay",
        "arr_delay",
        "carrier",
        "origin",
        "time_hour",
    ];
    let rows = columns(text, names)?.into_iter();
    let flight = |[
        year,
        month,
        day,
        dep_time,
        dep_delay,
        arr_delay,
        carrier,
        origin,
        time_hour,
    ]: [_; 9]| Flight {
        year,
        month,
        day,
        dep_time: number(dep_time),
        dep_delay: number(dep_delay),
        arr_delay: number(arr_delay),
        carrier,
        origin,
        time_hour,
    };
    Ok(rows.map(flight).collect())
}

/// `NA` is no number.
fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// These columns of a file without quotes, which the five files are.
fn columns<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Result<Vec<[&'a str; N]>> {
    ensure!(!text.contains('"'), "a file has quotes");
    let (header, rows) = text.split_once('\n').context("no header")?;
    let header: Vec<&str> = header.split(',').collect();
    let mut places = [0; N];
    for (place, name) in places.iter_mut().zip(names) {
        let found = header.iter().position(|column| *column == name);
        *place = found.with_context(|| format!("no column {name}"))?;
    }
    let row = |line: &'a str| {
        let cells: Vec<&str> = line.split(',').collect();
        places.map(|place| cells[place])
    };
    Ok(rows.lines().map(row).collect())
}
