//! Where lines go: standard output, or a file that is opened anew when somebody moved it away.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    #[default]
    Stdout,
    /// The end of this file, which is made where there is none.
    File(PathBuf),
}

/// An output that asks before each batch of lines where it is to go.
///
/// A batch ends with a flush. Between two of them the file's name is looked up again: when it leads
/// elsewhere, as after a rename by logrotate, the file of that name is opened, or made, so that
/// nobody has to be told.
#[derive(Debug)]
pub struct LogOutput<F> {
    wanted: F,
    open: Option<(Destination, File)>,
    within_batch: bool,
}

impl<F: FnMut() -> Destination> LogOutput<F> {
    /// One that goes where `wanted` says.
    pub fn new(wanted: F) -> Self {
        Self {
            wanted,
            open: None,
            within_batch: false,
        }
    }

    /// The output for a new batch.
    fn settle(&mut self) -> io::Result<()> {
        let wanted = (self.wanted)();
        let is_right = self.open.as_ref().is_some_and(|(open, file)| {
            *open == wanted
                && match open {
                    Destination::Stdout => true,
                    Destination::File(path) => is_at(file, path),
                }
        });
        if !is_right {
            // What could not be opened is tried again with the next batch.
            self.open = None;
            let file = open(&wanted)?;
            self.open = Some((wanted, file));
        }
        Ok(())
    }
}

impl<F: FnMut() -> Destination> Write for LogOutput<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.within_batch {
            self.settle()?;
            self.within_batch = true;
        }
        let Some((_, file)) = &mut self.open else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        // A batch that breaks off is over.
        file.write(bytes).inspect_err(|_| self.within_batch = false)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.within_batch = false;
        Ok(())
    }
}

fn open(destination: &Destination) -> io::Result<File> {
    match destination {
        // Past the standard library's own buffer and lock.
        Destination::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        Destination::File(path) => File::options().append(true).create(true).open(path),
    }
}

/// Whether `file` is what is at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |it: Metadata| (it.dev(), it.ino());
    let named = fs::metadata(path).map(identity);
    let opened = file.metadata().map(identity);
    named.is_ok_and(|named| opened.is_ok_and(|opened| named == opened))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    fn batch(output: &mut impl Write, text: &str) -> io::Result<()> {
        output.write_all(text.as_bytes())?;
        output.flush()
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let mut output = LogOutput::new(|| Destination::File(path.clone()));
        batch(&mut output, "1\n").unwrap();
        output.write_all(b"2").unwrap();
        fs::rename(&path, &moved).unwrap();
        // A batch is not torn.
        output.write_all(b"2\n").unwrap();
        output.flush().unwrap();
        batch(&mut output, "3\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "1\n22\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
    }

    #[test]
    fn lines_are_added_to_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let mut output = LogOutput::new(|| Destination::File(path.clone()));
        batch(&mut output, "1\n").unwrap();
        // As `copytruncate` leaves it.
        fs::write(&path, "").unwrap();
        batch(&mut output, "2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
    }

    #[test]
    fn it_follows_what_is_wanted_and_tries_again() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = Rc::new(RefCell::new(Destination::File(folder.path().join("no/a"))));
        let asked = Rc::clone(&wanted);
        let mut output = LogOutput::new(move || asked.borrow().clone());
        assert!(batch(&mut output, "lost\n").is_err());
        fs::create_dir(folder.path().join("no")).unwrap();
        batch(&mut output, "1\n").unwrap();
        wanted.replace(Destination::File(folder.path().join("b")));
        batch(&mut output, "2\n").unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join("no/a")).unwrap(),
            "1\n"
        );
        assert_eq!(fs::read_to_string(folder.path().join("b")).unwrap(), "2\n");
    }
}
