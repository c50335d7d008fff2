//! Sockets: TCP and Unix streams behind one type, and listeners of both.

mod listen;
mod stream;

pub use listen::{BindError, Listener, SharedListener};
pub use stream::{Detached, Stream};
