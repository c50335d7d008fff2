//! Sockets: TCP and Unix streams, in clear or under TLS, behind one type, what waits to be read from
//! and written to them, listeners of both, floods of frames, and time as their waits need it.

mod alarm;
pub mod clock;
mod cork;
mod flood;
mod inbox;
mod inherit;
mod listen;
mod outbox;
mod pass;
mod pause;
mod plain;
mod pulse;
mod socket;
mod stream;
mod wire;

pub use alarm::Alarm;
pub use cork::{Cork, Corked};
pub use flood::{FloodWatch, is_clients_fault};
pub use inbox::Inbox;
pub use inherit::{Inherited, InheritedSocket};
pub use listen::{BindError, Listener, SharedListener};
pub use outbox::Outbox;
pub use pass::{receive_with, send_with};
pub use pause::{AcceptPause, is_exhausted};
pub use pulse::Pulse;
pub use stream::{Agreed, Detached, Stream};
pub use wire::{RequestBytes, ResponseBytes, Wire, WireError};
