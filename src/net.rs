//! Sockets: TCP and Unix streams behind one type, what waits to be read from and written to them,
//! listeners of both, and time as their waits need it.

mod alarm;
pub mod clock;
mod inbox;
mod listen;
mod outbox;
mod stream;
mod wire;

pub use alarm::Alarm;
pub use inbox::Inbox;
pub use listen::{BindError, Listener, SharedListener};
pub use outbox::Outbox;
pub use stream::{Detached, Stream};
pub use wire::{RequestBytes, ResponseBytes, Wire, WireError};
