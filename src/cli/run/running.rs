//! A keyway between its start and its drain.

use std::rc::Rc;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_local};
use tracing::{info, warn};

use super::super::output::{Done, Failure};
use crate::app::{App, Farewell, Offer, Succession, Supervisor, Takeover};
use crate::config::{ReloadRequest, Start};
use crate::drain::Phase;
use crate::net::{Inherited, SharedListener};

/// What was started.
pub(in crate::cli) struct Running {
    pub(in crate::cli) app: App,
    /// Accepts who asks the admin server.
    pub(super) admin: JoinHandle<()>,
    pub(super) admin_socket: Arc<SharedListener>,
    /// Asks for a reload, where there are files.
    pub(super) reload: Option<mpsc::Sender<ReloadRequest>>,
    pub(super) has_topology: bool,
}

/// Why it ends.
pub(super) enum End {
    /// It was asked to, or nobody needs it any more.
    Asked,
    /// Another process took over.
    Succeeded(Succession),
}

impl End {
    pub(super) fn asked(by: &str) -> Self {
        info!("{by} asks for the end");
        Self::Asked
    }
}

impl Running {
    /// Serves in the place of another process. Nothing may have been awaited since the start: until
    /// that process lets it begin, this one must not accept, neither clients nor who asks the admin
    /// server.
    pub(super) fn take_over(&self, mut from: Takeover, inherited: &Inherited) -> Done {
        if !self.has_topology {
            let error = "there is no valid topology; who was to be taken over from serves on";
            return Err(Failure::Error(error.to_owned()));
        }
        let begun = from.begin(inherited.taken());
        begun.map_err(|error| Failure::from_error(&error))?;
        for socket in self.sockets().filter(|it| inherited.is_owned(it.name())) {
            socket.own();
        }
        self.app.serve();
        if let Err(error) = from.serving() {
            warn!(%error, "who was taken over from may serve on");
        }
        Ok(())
    }

    /// Serves as soon as it can, until another process takes over or it has been idle for too long.
    pub(super) async fn live(
        &self,
        policy: Start,
        offer: Option<Offer>,
        supervisor: &Supervisor,
    ) -> End {
        if !self.has_topology && policy == Start::Wait {
            supervisor.waits("waiting for a valid topology");
            self.app.reloads.changed.notified().await;
        }
        self.app.serve();
        supervisor.ready();
        let Some(mut offer) = offer else {
            self.app.deserted().await;
            return End::Asked;
        };
        offer.show();
        let sockets: Vec<_> = self.sockets().collect();
        tokio::select! {
            () = self.app.deserted() => End::Asked,
            succession = offer.taken(&sockets) => End::Succeeded(succession),
        }
    }

    /// Looks at the files whenever SIGHUP asks for it.
    pub(super) fn follow_hangups(&self, mut hangups: Signal, supervisor: Rc<Supervisor>) {
        let Some(reload) = self.reload.clone() else {
            return;
        };
        let drain = self.app.drain.clone();
        spawn_local(async move {
            while hangups.recv().await.is_some() {
                let serves = drain.phase() == Phase::Serving;
                if serves {
                    supervisor.reloading();
                }
                reload_now(&reload).await;
                if serves {
                    supervisor.ready();
                }
            }
        });
    }

    /// Tells who must know that it goes down, and how it goes.
    pub(super) fn end(self, end: End, supervisor: &Supervisor) -> (App, Farewell) {
        let Succession { taken, pid } = match end {
            End::Asked => {
                supervisor.stopping();
                return (self.app, Farewell::Asked);
            }
            End::Succeeded(succession) => succession,
        };
        for socket in self
            .sockets()
            .filter(|it| taken.iter().any(|name| name == it.name()))
        {
            socket.keep();
        }
        // Who asks at the admin server's address asks the other one.
        self.admin.abort();
        if let Some(pid) = pid {
            supervisor.succeeded_by(pid);
        }
        (self.app, Farewell::Succeeded)
    }

    fn sockets(&self) -> impl Iterator<Item = &SharedListener> {
        self.app.sockets().chain([&*self.admin_socket])
    }
}

/// A reload because of a signal: the outcome is logged by who carries it out.
async fn reload_now(reload: &mpsc::Sender<ReloadRequest>) {
    let (reply, outcome) = oneshot::channel();
    if reload.send(ReloadRequest { reply }).await.is_ok() {
        info!(
            applied = matches!(outcome.await, Ok(Ok(_))),
            "SIGHUP: the files were looked at"
        );
    }
}
