//! Where the programs under test are.
//!
//! In: a name. Out: the path beside the running test or program.
//! Read next: `process`.

use std::path::PathBuf;

/// The program of that name, from the folder in which cargo put this test (`target/release`).
///
/// # Panics
/// When it was not built, saying how.
pub fn find(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    // target/release/deps/process-0123abcd → target/release; a program of this crate lies there itself.
    let folder = test.parent().expect("a folder");
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let program = folder.join(name);
    assert!(
        program.is_file(),
        "{} is not there: build the programs first with `cargo build --release --workspace`",
        program.display()
    );
    program
}
