//! `aviary-e2e build-image`: an image from a program of this machine.

use std::path::PathBuf;

use anyhow::{Context, Result};
use aviary_e2e::cluster::image::{ImageSpec, Layer, NONROOT};
use aviary_e2e::cluster::{Cluster, Loaded};

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The image's name, such as aviary.dev/gateway:dev
    #[arg(long)]
    reference: String,
    /// The program to run; the libraries it needs come along
    #[arg(long)]
    program: PathBuf,
    /// A further file, as HOST_PATH:IMAGE_PATH, in a layer below the program's
    #[arg(long = "add", value_name = "FROM:TO", value_parser = parse_pair)]
    files: Vec<(String, String)>,
    /// An environment variable, as NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    env: Vec<(String, String)>,
    /// The user to run as
    #[arg(long, default_value_t = NONROOT)]
    user: u32,
    /// A port it listens on
    #[arg(long = "port")]
    ports: Vec<u16>,
    /// Write an OCI archive instead of loading the image into the box
    #[arg(long)]
    output: Option<PathBuf>,
    /// Arguments that the program is always given
    #[arg(last = true, value_name = "ARGUMENTS")]
    words: Vec<String>,
}

pub(crate) async fn run(cluster: &Cluster, arguments: Arguments) -> Result<()> {
    let output = arguments.output.clone();
    let spec = spec(arguments)?;
    let reference = spec.reference.clone();
    match output {
        Some(path) => println!("wrote {}", cluster.save_image(spec, path).await?),
        None => match cluster.load_image(spec).await? {
            Loaded::Now => println!("loaded {reference}"),
            Loaded::Already => println!("{reference} is there already"),
        },
    }
    Ok(())
}

fn spec(arguments: Arguments) -> Result<ImageSpec> {
    let name = arguments
        .program
        .file_name()
        .context("the program has no name")?;
    let inside = PathBuf::from("/usr/local/bin").join(name);
    let files = arguments
        .files
        .iter()
        .fold(Layer::new(), |layer, (from, to)| {
            layer.file(to, 0o644, from)
        });
    let program = Layer::new().file(&inside, 0o755, &arguments.program);
    let libraries = Layer::base().libraries_of(&arguments.program)?;
    let words = std::iter::once(inside.display().to_string()).chain(arguments.words);
    let mut spec = ImageSpec::new(&arguments.reference).layer(libraries);
    if !arguments.files.is_empty() {
        spec = spec.layer(files);
    }
    spec = spec.layer(program).entrypoint(words);
    spec.env = arguments.env;
    spec.user = arguments.user;
    spec.exposed_ports = arguments.ports;
    Ok(spec)
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    split(text, ':').ok_or_else(|| format!("`{text}` is not HOST_PATH:IMAGE_PATH"))
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    split(text, '=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))
}

fn split(text: &str, separator: char) -> Option<(String, String)> {
    let (left, right) = text.split_once(separator)?;
    Some((left.to_owned(), right.to_owned()))
}
