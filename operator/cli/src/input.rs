//! The files that `-f` names, and the Kubernetes objects in them.

use crate::yaml::{self, Node};
use serde::Serialize;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use walkdir::WalkDir;

/// Input that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file that is not there, may not be read, or is not UTF-8.
    #[error("{file}: {cause}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A folder that cannot be searched.
    #[error("{cause}")]
    Folder {
        /// Why.
        #[from]
        cause: walkdir::Error,
    },
    /// A file that is something else.
    #[error("{file}: it is not YAML: {cause}")]
    NotYaml {
        /// The file.
        file: String,
        /// Why not, with the line.
        cause: Box<serde_saphyr::Error>,
    },
    /// Files with none of Aviary's objects in them.
    #[error("there is no Workspace, DataSource, Pipe or AccessToken in what was given")]
    Nothing,
}

impl InputError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "it must be UTF-8 text that you may read",
            Self::Folder { .. } => "-f takes a file, a folder, or - for standard input",
            Self::NotYaml { .. } => {
                "templates must be rendered first: `helm template ... | aviary plan -f -`"
            }
            Self::Nothing => "folders are searched for files that end in .yaml or .yml",
        }
    }
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Place {
    /// The file as it was named, or found.
    pub(crate) file: Rc<str>,
    /// Counted from one.
    pub(crate) line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.line)
    }
}

/// An object as somebody wrote it.
pub(crate) struct Manifest {
    pub(crate) file: Rc<str>,
    pub(crate) node: Node,
}

impl Manifest {
    /// Where a field of it stands.
    pub(crate) fn place(&self, path: &str) -> Place {
        Place {
            file: Rc::clone(&self.file),
            line: self.node.line_of(path),
        }
    }

    /// A string of the object, such as its `kind`.
    pub(crate) fn text(&self, keys: &[&str]) -> &str {
        let found = keys.iter().try_fold(&self.node, |node, key| node.get(key));
        found.and_then(Node::text).unwrap_or_default()
    }
}

/// Reads all that the paths name, in order; `stdin` is read for `-`.
pub(crate) fn read(paths: &[PathBuf], stdin: &mut dyn Read) -> Result<Vec<Manifest>, InputError> {
    let mut manifests = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            take(&mut manifests, "stdin", |text| stdin.read_to_string(text))?;
            continue;
        }
        for file in files(path)? {
            let name = file.display().to_string();
            take(&mut manifests, &name, |text| {
                std::fs::File::open(&file)?.read_to_string(text)
            })?;
        }
    }
    Ok(manifests)
}

/// The file itself, or the YAML files in a folder, by name. What begins with a dot is no
/// business of ours, and Kubernetes mounts everything a second time under such names.
fn files(path: &Path) -> Result<Vec<PathBuf>, InputError> {
    let is_wanted = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    let is_yaml = |path: &Path| {
        path.extension()
            .is_some_and(|it| it == "yaml" || it == "yml")
    };
    let mut files = Vec::new();
    let entries = WalkDir::new(path).follow_links(true).sort_by_file_name();
    for entry in entries.into_iter().filter_entry(is_wanted) {
        let entry = entry?;
        if !entry.file_type().is_dir() && (entry.depth() == 0 || is_yaml(entry.path())) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

fn take(
    manifests: &mut Vec<Manifest>,
    file: &str,
    read: impl FnOnce(&mut String) -> std::io::Result<usize>,
) -> Result<(), InputError> {
    let mut text = String::new();
    read(&mut text).map_err(|cause| InputError::Unreadable {
        file: file.to_owned(),
        cause,
    })?;
    let documents = yaml::documents(&text).map_err(|cause| InputError::NotYaml {
        file: file.to_owned(),
        cause: Box::new(cause),
    })?;
    let file: Rc<str> = file.into();
    let objects = documents.into_iter().flat_map(Node::into_objects);
    manifests.extend(objects.map(|node| Manifest {
        file: Rc::clone(&file),
        node,
    }));
    Ok(())
}
