//! Files that say anything: an answer or a list of problems, each with its place.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use keyway::config::{LoadError, Loader, Overrides, read_topology};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    // Beside the program, among what was built.
    let program = std::env::current_exe().expect("a program has a path");
    let folder = program.with_file_name(format!("files-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    // The first byte says which of the files it is.
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    let file = FOLDER.join(if which % 2 == 0 {
        "topology.yaml"
    } else {
        "keyway.yaml"
    });
    std::fs::write(&file, bytes).expect("the file can be written");
    let problems = if which % 2 == 0 {
        read_topology(&file).err()
    } else {
        std::fs::write(FOLDER.join("topology.yaml"), "version: 1\nclusters: {}\n")
            .expect("so can this");
        Loader::open(file, Overrides::default()).err()
    };
    if let Some(LoadError::Problems(lines)) = problems {
        assert!(!lines.is_empty() && lines.iter().all(|it| it.contains("yaml")));
    }
});
