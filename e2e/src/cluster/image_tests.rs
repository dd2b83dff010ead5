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
