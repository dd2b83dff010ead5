//! Archives as a reader finds them.

use super::*;

#[test]
fn references_are_completed_as_runtimes_do() {
    for (given, expected) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("aviary/gateway:dev", "docker.io/aviary/gateway:dev"),
        ("aviary.dev/pause:1", "aviary.dev/pause:1"),
        ("localhost/x", "localhost/x:latest"),
        ("host:5000/a/b", "host:5000/a/b:latest"),
    ] {
        assert_eq!(normalized_reference(given), expected);
    }
}

#[test]
fn libraries_are_read_from_ldd() {
    let path = |line| library_path(line).unwrap();
    assert_eq!(path("\tlinux-vdso.so.1 (0x00007ffc)"), None);
    assert_eq!(path("\tstatically linked"), None);
    assert_eq!(
        path("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)"),
        Some("/lib/x86_64-linux-gnu/libc.so.6")
    );
    assert_eq!(
        path("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)"),
        Some("/lib64/ld-linux-x86-64.so.2")
    );
    assert!(library_path("\tlibx.so => not found").is_err());
}

#[test]
fn an_archive_holds_its_layers_and_leaves_out_known_ones() {
    let cache = tempfile::tempdir().unwrap();
    let source = cache.path().join("program");
    fs::write(&source, vec![7; 100_000]).unwrap();
    let spec = ImageSpec::new("aviary.dev/test:1")
        .layer(Layer::base())
        .layer(Layer::new().file("/bin/program", 0o755, &source))
        .entrypoint(["/bin/program"]);
    let image = spec.prepare(&cache.path().join("layers")).unwrap();

    let all = entries(&image, &HashSet::new());
    assert_eq!(
        all.iter()
            .filter(|(path, _)| path.starts_with("blobs"))
            .count(),
        4
    );
    for (path, content) in &all {
        if let Some(digest) = path.strip_prefix("blobs/sha256/") {
            assert_eq!(hex::encode(Sha256::digest(content)), digest);
        }
    }

    let known = HashSet::from([image.layers[0].digest_text()]);
    assert_eq!(entries(&image, &known).len(), all.len() - 1);
}

#[test]
fn a_digest_follows_the_content_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let digest = |cache: &str, content: &str| {
        let source = folder.path().join("file");
        fs::write(&source, content).unwrap();
        let spec = ImageSpec::new("x").layer(Layer::new().file("/file", 0o644, source));
        let image = spec.prepare(&folder.path().join(cache)).unwrap();
        image.digest()
    };
    let first = digest("a", "one");
    assert_eq!(digest("b", "one"), first);
    assert_ne!(digest("a", "two!"), first);
}

#[test]
fn a_tree_has_what_links_lead_to() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, elsewhere) = (folder.path().join("tree"), folder.path().join("elsewhere"));
    fs::create_dir_all(tree.join("inner")).unwrap();
    fs::write(tree.join("inner/file"), "one").unwrap();
    fs::write(&elsewhere, "two").unwrap();
    std::os::unix::fs::symlink(&elsewhere, tree.join("link")).unwrap();
    std::os::unix::fs::symlink("/nowhere at all", tree.join("dead")).unwrap();
    let layer = Layer::new().tree("/usr/lib", &tree).unwrap();
    let mut archive = Vec::new();
    layer.write(&mut archive).unwrap();
    let mut archive = tar::Archive::new(archive.as_slice());
    let files = archive.entries().unwrap().map(Result::unwrap);
    let files = files.filter(|entry| entry.header().entry_type().is_file());
    let found: Vec<(String, String)> = files
        .map(|mut entry| {
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        })
        .collect();
    let file = |path: &str, content: &str| (path.to_owned(), content.to_owned());
    assert_eq!(
        found,
        [
            file("usr/lib/inner/file", "one"),
            file("usr/lib/link", "two")
        ]
    );
}

fn entries(image: &Image<'_>, present: &HashSet<String>) -> Vec<(String, Vec<u8>)> {
    let mut archive = Vec::new();
    image.write(&mut archive, present).unwrap();
    let mut found = Vec::new();
    for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.push((entry.path().unwrap().display().to_string(), content));
    }
    found
}
