//! Files of every kind of column, and files that are not what they say.

use super::super::block::testing::{Row, layout, records, rows};
use super::*;
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType,
    Int32Type, Int64Type,
};
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// A column's values, and its levels of definition and repetition.
type Column = Box<dyn Fn(&mut parquet::file::writer::SerializedColumnWriter<'_>)>;

fn column<T: DataType>(values: &[T::T], definitions: &[i16], repetitions: &[i16]) -> Column {
    let levels = |levels: &[i16]| (!levels.is_empty()).then(|| levels.to_vec());
    let (values, definitions, repetitions) =
        (values.to_vec(), levels(definitions), levels(repetitions));
    Box::new(move |writer| {
        let (definitions, repetitions) = (definitions.as_deref(), repetitions.as_deref());
        let typed = writer.typed::<T>();
        typed
            .write_batch(&values, definitions, repetitions)
            .unwrap();
    })
}

/// A file with these columns in each of its row groups.
fn file(schema: &str, groups: usize, columns: &[Column]) -> Bytes {
    file_with(WriterProperties::builder().build(), schema, groups, columns)
}

fn file_with(
    properties: WriterProperties,
    schema: &str,
    groups: usize,
    columns: &[Column],
) -> Bytes {
    let schema = Arc::new(parse_message_type(&format!("message rows {{ {schema} }}")).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for _ in 0..groups {
        let mut group = writer.next_row_group().unwrap();
        for column in columns {
            let mut writer = group.next_column().unwrap().unwrap();
            column(&mut writer);
            writer.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.into_inner().unwrap().into()
}

fn texts<const COUNT: usize>(texts: [&[u8]; COUNT]) -> [ByteArray; COUNT] {
    texts.map(|text| ByteArray::from(text.to_vec()))
}

/// Keeps rows, or only looks at the size of blocks.
struct Collected {
    full: usize,
    keep: bool,
    rows: Vec<Row>,
    records: Vec<String>,
    count: usize,
    largest: usize,
    pages: u64,
    /// Bytes of pages that may be loaded at once.
    most: u64,
}

impl Sink for Collected {
    fn is_full(&mut self, size: usize) -> Result<bool, ApiError> {
        Ok(size >= self.full)
    }

    fn load(&mut self, pages: u64) -> Result<(), ApiError> {
        if pages > self.most {
            return Err(ApiError::new(ErrorCode::BodyTooLarge, "too much"));
        }
        self.pages = self.pages.max(pages);
        Ok(())
    }

    fn take(&mut self, block: Block) -> Result<(), ApiError> {
        self.largest = self.largest.max(block.size());
        self.count += block.rows();
        if self.keep {
            self.rows.extend(rows(&block));
            self.records.extend(records(&block));
        }
        Ok(())
    }
}

fn read_into(file: Bytes, names: &[&str], sink: &mut Collected) -> Result<Vec<String>, FileError> {
    read_doubting(file, names, &|block| vec![true; block.rows()], sink)
}

/// No row is in doubt.
fn certain(block: &Block) -> Vec<bool> {
    vec![false; block.rows()]
}

fn read_doubting(
    file: Bytes,
    names: &[&str],
    doubtful: &dyn Fn(&Block) -> Vec<bool>,
    sink: &mut Collected,
) -> Result<Vec<String>, FileError> {
    let wanted = names.iter().map(|&name| Wanted {
        name: name.to_owned(),
        kind: None,
    });
    let wanted: Vec<Wanted> = wanted.collect();
    let file = File::open(file, &wanted)?;
    file.read(layout(wanted.len()), "i", doubtful, sink)?;
    Ok(file.ignored_columns())
}

fn collected(full: usize, keep: bool) -> Collected {
    Collected {
        full,
        keep,
        rows: Vec::new(),
        records: Vec::new(),
        count: 0,
        largest: 0,
        pages: 0,
        most: u64::MAX,
    }
}

fn read(file: Bytes, names: &[&str]) -> Result<Vec<Row>, FileError> {
    let mut sink = collected(1, true);
    read_into(file, names, &mut sink).map(|_| sink.rows)
}

/// Two row groups of two rows each.
fn sample() -> Bytes {
    file(
        "REQUIRED INT32 day (DATE);
         OPTIONAL INT64 at (TIMESTAMP(MILLIS,true));
         OPTIONAL BYTE_ARRAY text (UTF8);
         REQUIRED DOUBLE number;
         OPTIONAL GROUP tags (LIST) { REPEATED GROUP list { REQUIRED BYTE_ARRAY element (UTF8); } }",
        2,
        &[
            column::<Int32Type>(&[0, 19844], &[], &[]),
            column::<Int64Type>(&[1_714_557_600_500], &[0, 1], &[]),
            column::<ByteArrayType>(&texts([b"\xff"]), &[1, 0], &[]),
            column::<DoubleType>(&[0.1, 1e300], &[], &[]),
            column::<ByteArrayType>(&texts([b"a", b"b\""]), &[2, 2, 0], &[0, 1, 0]),
        ],
    )
}

/// The file with another number of rows in its index.
fn claiming(file: &Bytes, rows: i64) -> Bytes {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file).unwrap();
    let mut metadata = metadata.into_builder();
    let groups = metadata.take_row_groups();
    let groups = groups
        .into_iter()
        .map(|group| group.into_builder().set_num_rows(rows).build().unwrap());
    let metadata = metadata.set_row_groups(groups.collect()).build();
    let footer = u32::from_le_bytes(file[file.len() - 8..][..4].try_into().unwrap()) as usize;
    let mut changed = file[..file.len() - 8 - footer].to_vec();
    ParquetMetaDataWriter::new(&mut changed, &metadata)
        .finish()
        .unwrap();
    changed.into()
}

#[test]
fn every_kind_of_column_becomes_text() {
    let rows = read(sample(), &["number", "text", "tags", "none", "at", "day"]).unwrap();
    let first = Row::Values(vec![
        Some(b"0.1".to_vec()),
        Some(b"\xff".to_vec()),
        Some(b"[\"a\",\"b\\\"\"]".to_vec()),
        None,
        None,
        Some(b"1970-01-01".to_vec()),
    ]);
    let second = Row::values(&[
        Some("1e300"),
        None,
        None,
        None,
        Some("2024-05-01 10:00:00.5Z"),
        Some("2024-05-01"),
    ]);
    assert_eq!(rows, [first.clone(), second.clone(), first, second]);
}

#[test]
fn what_is_broken_is_an_error_and_no_panic() {
    let good = sample();
    for length in 0..good.len() {
        assert!(read(good.slice(..length), &["number"]).is_err(), "{length}");
    }
    for at in 0..good.len() {
        let mut broken = good.to_vec();
        broken[at] ^= 0x55;
        // Some bytes matter and some do not; the library panics at a few, which the caller catches.
        let _ = std::panic::catch_unwind(|| {
            read(broken.into(), &["number", "text", "tags", "at", "day"]).is_ok()
        });
    }
}

#[test]
fn rows_end_where_columns_do() {
    for claimed in [i64::MAX / 4, 3, 1, 0, -1] {
        for names in [["none", "number"], ["none", "tags"]] {
            let result = read(claiming(&sample(), claimed), &names);
            let refused = matches!(result, Err(FileError::Ragged | FileError::Parquet(_)));
            assert!(refused, "{claimed}: {result:?}");
        }
    }
    assert_eq!(read(claiming(&sample(), 2), &["number"]).unwrap().len(), 4);
    // With no column there is nothing to end them.
    let result = read(claiming(&sample(), i64::MAX / 4), &["none"]);
    assert!(matches!(result, Err(FileError::NoColumn)));
}

#[test]
fn names_that_are_no_columns_are_told() {
    let ignored = read_into(sample(), &["day", "text", "none"], &mut collected(1, true)).unwrap();
    assert_eq!(ignored, ["at", "number", "tags"]);
}

#[test]
fn a_row_in_doubt_keeps_what_the_table_has_no_column_for() {
    let only_second = |block: &Block| {
        let texts = block.columns[0].values();
        texts
            .map(|text| text == Some(b"1e300".as_slice()))
            .collect()
    };
    let mut sink = collected(1 << 20, true);
    let ignored = read_doubting(sample(), &["number"], &only_second, &mut sink).unwrap();
    assert_eq!(ignored, ["day", "at", "text", "tags"]);
    let certain = "{\"number\":\"0.1\"}";
    let doubtful =
        "{\"number\":\"1e300\",\"day\":\"2024-05-01\",\"at\":\"2024-05-01 10:00:00.5Z\"}";
    assert_eq!(sink.records, [certain, doubtful, certain, doubtful]);
}

#[test]
fn what_no_row_needs_is_not_loaded() {
    let loaded = |doubt: bool| {
        let mut sink = collected(1 << 20, true);
        let doubtful = |block: &Block| vec![doubt; block.rows()];
        read_doubting(sample(), &["number"], &doubtful, &mut sink).unwrap();
        sink.pages
    };
    assert!(loaded(false) < loaded(true));
}

#[test]
fn others_that_cannot_be_read_cost_no_row() {
    let mut sink = collected(1 << 20, true);
    sink.most = loaded_with(&["number"]);
    read_into(sample(), &["number"], &mut sink).unwrap();
    assert_eq!(sink.rows.len(), 4);
    assert_eq!(sink.records[0], "{\"number\":\"0.1\"}");
}

/// Bytes of pages that are loaded at once for these columns alone.
fn loaded_with(names: &[&str]) -> u64 {
    let mut sink = collected(1 << 20, true);
    read_doubting(sample(), names, &certain, &mut sink).unwrap();
    sink.pages
}

#[test]
fn a_long_text_that_stands_there_once_fills_many_blocks() {
    let long = vec![b'x'; 256 * 1024];
    let values = vec![ByteArray::from(long.clone()); 500];
    let list = vec![ByteArray::from(long.clone()); 8];
    let flat = file(
        "REQUIRED BYTE_ARRAY a (UTF8); REQUIRED BYTE_ARRAY b (UTF8);",
        1,
        &[
            column::<ByteArrayType>(&values, &[], &[]),
            column::<ByteArrayType>(&values, &[], &[]),
        ],
    );
    assert!(flat.len() < 3 * long.len());
    let mut sink = collected(1 << 20, false);
    read_into(flat, &["a", "b"], &mut sink).unwrap();
    assert_eq!(sink.count, 500);
    assert!(sink.largest < 2 << 20, "{}", sink.largest);

    let lists = "REPEATED BYTE_ARRAY a (UTF8);";
    let short = column::<ByteArrayType>(&list, &[1; 8], &[0, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(read(file(lists, 1, &[short]), &["a"]).unwrap().len(), 1);
    let values = vec![ByteArray::from(long); 80];
    let mut repetitions = [1; 80];
    repetitions[0] = 0;
    let endless = column::<ByteArrayType>(&values, &[1; 80], &repetitions);
    let result = read(file(lists, 1, &[endless]), &["a"]);
    assert!(matches!(result, Err(FileError::LongRow)));
}

#[test]
fn a_page_of_too_many_values_of_lists_is_refused() {
    const MANY: usize = 4 * 1024 * 1024 + 1;
    let repetitions: Vec<i16> = (0..MANY).map(|index| i16::from(index > 0)).collect();
    let endless = column::<Int32Type>(&vec![7; MANY], &vec![1; MANY], &repetitions);
    let file = file("REPEATED INT32 a;", 1, &[endless]);
    let result = read(file, &["a"]);
    assert!(
        matches!(result, Err(FileError::Parquet(_) | FileError::LongRow)),
        "{result:?}"
    );
}

#[test]
fn values_in_lists_keep_their_meaning() {
    let uuid = FixedLenByteArray::from(ByteArray::from(vec![0x11; 16]));
    let file = file(
        "REQUIRED GROUP u (LIST) { REPEATED GROUP list { REQUIRED FIXED_LEN_BYTE_ARRAY(16) element (UUID); } }
         REQUIRED GROUP local (LIST) { REPEATED GROUP list { OPTIONAL INT64 element (TIMESTAMP(MICROS,false)); } }
         REQUIRED GROUP nanos (LIST) { REPEATED GROUP list { REQUIRED INT64 element (TIMESTAMP(NANOS,true)); } }
         OPTIONAL GROUP m (MAP) { REPEATED GROUP key_value { REQUIRED INT32 key; OPTIONAL DOUBLE value; } }
         REQUIRED GROUP s { REQUIRED INT32 n (UINT_32); OPTIONAL GROUP l (LIST) { REPEATED GROUP list { OPTIONAL GROUP element (LIST) { REPEATED GROUP list { REQUIRED INT32 element; } } } } }
         REPEATED INT32 bare;",
        1,
        &[
            column::<FixedLenByteArrayType>(&[uuid.clone(), uuid], &[1, 0, 1], &[0, 0, 0]),
            column::<Int64Type>(&[500_000, 0], &[2, 1, 0, 2], &[0, 1, 0, 0]),
            column::<Int64Type>(&[1, 2, 3], &[1, 1, 1], &[0, 0, 0]),
            column::<Int32Type>(&[1, 2], &[2, 2, 1, 0], &[0, 1, 0, 0]),
            column::<DoubleType>(&[f64::NAN], &[3, 2, 1, 0], &[0, 1, 0, 0]),
            column::<Int32Type>(&[-1, 2, 3], &[], &[]),
            // [[1, 2], null, []], null, []
            column::<Int32Type>(&[1, 2], &[4, 4, 2, 3, 0, 1], &[0, 2, 1, 1, 0, 0]),
            column::<Int32Type>(&[5, 6], &[1, 1, 0, 0], &[0, 1, 0, 0]),
        ],
    );
    let names = ["u", "local", "nanos", "m", "s", "bare"];
    let row = |values: [Option<&str>; 6]| Row::values(&values);
    assert_eq!(
        read(file, &names).unwrap(),
        [
            row([
                Some("[\"11111111-1111-1111-1111-111111111111\"]"),
                Some("[\"1970-01-01 00:00:00.5\",null]"),
                Some("[\"1970-01-01 00:00:00.000000001Z\"]"),
                Some("{\"1\":\"NaN\",\"2\":null}"),
                Some("{\"n\":4294967295,\"l\":[[1,2],null,[]]}"),
                Some("[5,6]"),
            ]),
            row([
                Some("[]"),
                Some("[]"),
                Some("[\"1970-01-01 00:00:00.000000002Z\"]"),
                Some("{}"),
                Some("{\"n\":2,\"l\":null}"),
                Some("[]"),
            ]),
            row([
                Some("[\"11111111-1111-1111-1111-111111111111\"]"),
                Some("[\"1970-01-01 00:00:00\"]"),
                Some("[\"1970-01-01 00:00:00.000000003Z\"]"),
                None,
                Some("{\"n\":3,\"l\":[]}"),
                Some("[]"),
            ]),
        ]
    );
}

#[test]
fn bytes_in_lists_that_are_no_text_cost_their_row_and_no_other() {
    let schema = "REQUIRED INT32 n;
         REQUIRED GROUP a (LIST) { REPEATED GROUP list { REQUIRED BYTE_ARRAY element (UTF8); } }
         REPEATED BYTE_ARRAY b;";
    let file = file(
        schema,
        1,
        &[
            column::<Int32Type>(&[1, 2, 3], &[], &[]),
            column::<ByteArrayType>(&texts([b"x", b"\"\xffy", b"z"]), &[1, 1, 1], &[0, 0, 0]),
            column::<ByteArrayType>(&texts([b"p", b"q", b"\xfe"]), &[1, 1, 1], &[0, 0, 0]),
        ],
    );
    let reason = |column: &str| {
        format!("column `{column}`: bytes that are not valid UTF-8, in a list or structure")
    };
    assert_eq!(
        read(file, &["a", "b", "n"]).unwrap(),
        [
            Row::values(&[Some("[\"x\"]"), Some("[\"p\"]"), Some("1")]),
            Row::Rejected {
                raw: b"{\"a\":[\"\\\"\xffy\"],\"b\":[\"q\"],\"n\":\"2\"}".to_vec(),
                reason: reason("a"),
            },
            Row::Rejected {
                raw: b"{\"a\":[\"z\"],\"b\":[\"\xfe\"],\"n\":\"3\"}".to_vec(),
                reason: reason("b"),
            },
        ]
    );
}

#[test]
fn pages_are_measured_before_they_are_decompressed() {
    let long = vec![ByteArray::from(vec![b'x'; 4 << 20]); 3];
    let columns = [
        column::<ByteArrayType>(&long, &[], &[]),
        column::<Int32Type>(&[1, 2, 3], &[], &[]),
    ];
    let schema = "REQUIRED BYTE_ARRAY a (UTF8); REQUIRED INT32 b;";
    for (dictionary, expected) in [(true, 4 << 20), (false, 3 * (4 << 20))] {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(Default::default()))
            .set_dictionary_enabled(dictionary)
            .set_data_page_size_limit(64 << 20)
            .set_dictionary_page_size_limit(64 << 20)
            .build();
        let file = file_with(properties, schema, 1, &columns);
        assert!(file.len() < 10_000);
        let mut sink = collected(1, false);
        read_into(file.clone(), &["a"], &mut sink).unwrap();
        let pages = expected..expected + 1000;
        assert!(pages.contains(&sink.pages), "{dictionary}: {}", sink.pages);
        let mut sink = collected(1, false);
        read_doubting(file, &["b"], &certain, &mut sink).unwrap();
        assert!(sink.pages < 1000, "{}", sink.pages);
    }
}

/// A file of nothing but a schema, each element of which is a group of so many children.
fn schema_of_groups(depth: usize, children: u8) -> Bytes {
    let mut index = vec![0x15, 2, 0x19, 0xfc];
    let mut count = depth;
    while count >= 0x80 {
        index.push(count as u8 | 0x80);
        count >>= 7;
    }
    index.push(count as u8);
    for _ in 0..depth {
        // Repetition, name, children.
        index.extend([0x35, 0, 0x18, 1, b'a', 0x15, children, 0]);
    }
    index.push(0);
    let mut file = b"PAR1".to_vec();
    file.extend(&index);
    file.extend((index.len() as u32).to_le_bytes());
    file.extend(b"PAR1");
    file.into()
}

#[test]
fn a_schema_without_end_is_refused_before_it_is_read() {
    for (depth, children) in [(1_000_000, 2), (3, 120)] {
        let result = read(schema_of_groups(depth, children), &["a"]);
        assert!(
            matches!(result, Err(FileError::NotUnderstood)),
            "{result:?}"
        );
    }
}

#[test]
fn texts_in_every_encoding_are_read_and_their_lengths_counted_before() {
    let schema =
        "REQUIRED BYTE_ARRAY a (UTF8); OPTIONAL BYTE_ARRAY b (UTF8); REPEATED BYTE_ARRAY c (UTF8);";
    let values: Vec<String> = (0..2000)
        .map(|index| format!("{}{index}", "x".repeat(index % 7)))
        .collect();
    let texts: Vec<ByteArray> = values.iter().map(|text| text.as_str().into()).collect();
    let columns = [
        column::<ByteArrayType>(&texts, &[], &[]),
        column::<ByteArrayType>(&texts, &[1; 2000], &[]),
        column::<ByteArrayType>(&texts, &[1; 2000], &[0; 2000]),
    ];
    for encoding in [
        Encoding::DELTA_LENGTH_BYTE_ARRAY,
        Encoding::DELTA_BYTE_ARRAY,
    ] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let properties = WriterProperties::builder()
                .set_writer_version(version)
                .set_dictionary_enabled(false)
                .set_encoding(encoding)
                .set_data_page_row_count_limit(700)
                .build();
            let file = file_with(properties, schema, 1, &columns);
            let rows = read(file.clone(), &["a", "b", "c"]).unwrap();
            let expected = values.iter().map(|text| {
                let list = format!("[\"{text}\"]");
                Row::values(&[Some(text), Some(text), Some(&list)])
            });
            assert!(rows.into_iter().eq(expected), "{encoding} {version:?}");

            // Blocks of 128 numbers, 4 parts in each, and how many numbers there are.
            let head = [0x80, 1, 4];
            let starts: Vec<usize> = (0..file.len() - 5)
                .filter(|&at| file[at..].starts_with(&head) && file[at + 3] >= 0x80)
                .collect();
            assert!(starts.len() >= 6, "{starts:?}");
            for at in starts {
                let mut lying = file.to_vec();
                lying[at + 4] = 0x7f;
                let result = read(lying.into(), &["a", "b", "c"]);
                let told = matches!(&result, Err(FileError::Parquet(error)) if error.to_string().contains("more lengths than values"));
                assert!(
                    told,
                    "{encoding} {version:?} {at}: {:?}",
                    result.map(|rows| rows.len())
                );
            }
        }
    }
}
