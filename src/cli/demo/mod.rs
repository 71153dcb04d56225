//! `bartizan demo`: the whole product on loopback in one process: a sample API, an issuer, a policy, the proxy.
//!
//! Only the API and the issuer are specific to the demo. The policy is `config/demo.yaml`, unpacked into a folder of
//! its own; the proxy is the daemon of `bartizan run`.

mod issuer;
mod orders_api;
mod page;
mod places;
mod policy;
mod server;

use std::io::{self, Write};
use std::net::TcpListener;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use self::issuer::Issuer;
use self::orders_api::OrdersApi;
use self::places::{Places, USUAL, loopback};
use self::policy::Unpacked;
use self::server::listen;
use super::exit_code::{DONE, FAILED, INVALID};
use super::log::Log;
use super::output::{self, colour};
use super::ready;
use super::run::serve;
use crate::daemon::Setup;
use crate::proxy::downstream::listener::{self, Bound};

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan demo
It prints the address of the admin page, which signs you in, and six curl commands to paste into another terminal, then the record of every request.
It uses ports 8080, 9000, 9002 and 9901, and a free port in place of one that is taken.
Signals: SIGHUP reloads the unpacked policy, Ctrl-C stops.")]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> u8 {
    let log = match Log::from_env("info") {
        Ok(log) => log,
        Err(message) => {
            output::message(format_args!("error: {message}"));
            return INVALID;
        }
    };
    match show(&log) {
        Ok(code) => code,
        Err(error) => {
            output::message(format_args!("error: {error}"));
            FAILED
        }
    }
}

/// Starts everything and serves until the daemon stops, then removes the unpacked policy.
fn show(log: &Log) -> io::Result<u8> {
    let ports = Ports::take()?;
    let places = ports.places();
    let issuer = Issuer::new(places.issuer)?;
    let admin_token = admin_token()?;
    let unpacked = Unpacked::new(&places, &admin_token)?;
    let colour = colour(&io::stdout());
    let page = page::page(&places, &issuer, &admin_token, unpacked.file(), colour)?;

    start_services(ports.api.into_socket(), ports.issuer.into_socket(), issuer)?;
    let bound = vec![ports.proxy, ports.admin];
    let setup =
        Setup { policy: unpacked.file().to_owned(), readable: Some(colour), checklist: ready::of_daemon, bound };
    let served = serve(setup, log, || {
        // Ignores the error: standard output may be closed.
        let _ = io::stdout().write_all(page.as_bytes());
        // Logging starts only now, so that the page comes first.
        log.start();
    });
    Ok(served.err().unwrap_or(DONE))
}

/// A random token for the operator. Fails if the system has no randomness.
fn admin_token() -> io::Result<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("cannot create the admin token"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Sockets for the four listeners, each on its usual port or, if that is taken, on a free one.
struct Ports {
    proxy: Bound,
    api: Bound,
    issuer: Bound,
    admin: Bound,
}

impl Ports {
    fn take() -> io::Result<Self> {
        // Bind all usual ports first. A free port is then none of them, so that the addresses in the policy can be
        // replaced one after another.
        let [proxy, api, issuer, admin] = [USUAL.proxy, USUAL.api, USUAL.issuer, USUAL.admin].map(listener::bind);
        let or_free = |usual: io::Result<Bound>| usual.or_else(|_| listener::bind(loopback(0)));
        Ok(Self { proxy: or_free(proxy)?, api: or_free(api)?, issuer: or_free(issuer)?, admin: or_free(admin)? })
    }

    fn places(&self) -> Places {
        Places { proxy: self.proxy.local, api: self.api.local, issuer: self.issuer.local, admin: self.admin.local }
    }
}

/// Serves the API and the issuer from a thread of their own until the process ends: they must answer while the daemon
/// starts, and go on while it drains.
fn start_services(api: TcpListener, issuer: TcpListener, keys: Issuer) -> io::Result<()> {
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        if let Err(error) = runtime.and_then(|runtime| runtime.block_on(services(api, issuer, keys))) {
            tracing::error!(%error, "the sample API and the issuer have stopped");
        }
    };
    std::thread::Builder::new().name("demo".to_owned()).spawn(serve)?;
    Ok(())
}

async fn services(api: TcpListener, issuer: TcpListener, keys: Issuer) -> io::Result<()> {
    let (orders, keys) = (Rc::new(OrdersApi::new()), Rc::new(keys));
    let orders = listen(api, move |request| Rc::clone(&orders).answer(request));
    let tokens = listen(issuer, move |request| Rc::clone(&keys).answer(request));
    tokio::try_join!(orders, tokens).map(|_| ())
}
