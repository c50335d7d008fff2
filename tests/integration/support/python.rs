//! What comes from the Python Package Index.

use std::path::{Path, PathBuf};

/// A program of the Python environment that `tests/run` makes, `python` itself among them.
pub fn python(program: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    let path = target.join("python/bin").join(program);
    assert!(path.exists(), "tests/run installs {}", path.display());
    path
}
