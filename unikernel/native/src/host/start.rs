//! From a machine that is set up to the application at work, and to the exit code.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::application::{self, Application, Mistakes, Parts, Streams};
use super::control::{self, Boot, Phase, Said};
use super::executor::{self, spawn, timeout};
use super::input::{Input, Source};
use super::launcher::{self, Launcher, Pending, Port, Reader};
use super::manifest::Manifest;
use super::output::{Console, Output};
use super::signals::Signals;
use super::wasi::Errno;
use super::wasi::volume::Granted;
use super::{engine, log, platform, trace, wasi};
use crate::boot::{BootInfo, Payload, command_line};
use crate::net::{self, Settings};
use crate::virtio::{self, Devices};

/// Exit codes: of mistakes that the user can put right, and of everything else.
const MISTAKE: u8 = 2;
const FAILED: u8 = 1;

/// How long the last words may take to be written, and the launcher to fetch them.
const FLUSH: Duration = Duration::from_secs(10);

/// Channels to the launcher, by their names.
pub type Ports = BTreeMap<String, Arc<dyn Port>>;

/// Runs the application. Returns the exit code.
pub fn main(info: BootInfo) -> u8 {
    executor::block_on(run(info))
}

async fn run(mut info: BootInfo) -> u8 {
    let began = platform::now();
    if let Some(wall) = info.wall {
        platform::set_wall(wall);
    }
    let Some(payload) = info.payload.take() else {
        log::line("slight-machine: this kernel has no application: slight-py image build puts one behind it");
        return MISTAKE;
    };
    let mut devices = virtio::start(&info.command_line);
    let ports = ports(&devices).await;
    let streams = streams(&ports);
    let control = ports.get(control::CONTROL).cloned();
    let launcher = Launcher::new(control.clone());
    let signals = Arc::new(Signals::default());
    launcher.say(&Said::Hello { at: began });
    launcher.say(&Said::Phase(Phase::Imported));
    let has_launcher = control.is_some();
    let code = match start(info, payload, &mut devices, control, &launcher, &signals, &streams).await {
        Ok(application) => application::run(&application, &signals).await.unwrap_or_else(|mistakes| {
            launcher.say(&Said::Errors(&mistakes));
            MISTAKE
        }),
        Err((code, lines)) => {
            launcher.say(&Said::Errors(&lines));
            code
        }
    };
    let _ = timeout(FLUSH, async {
        streams.stdout.out().await;
        streams.stderr.out().await;
        launcher.say(&Said::Exit(code));
        launcher.out().await;
    })
    .await;
    if has_launcher {
        // What was written is the launcher's to fetch, and the end of the machine would take it away: it is the launcher
        // who ends the machine.
        executor::sleep(FLUSH).await;
    }
    code
}

/// An exit code and what there is to say of it, a line each.
type Failure = (u8, Vec<String>);

fn mistakes(lines: Mistakes) -> Failure {
    (MISTAKE, lines)
}

fn failed(line: String) -> Failure {
    (FAILED, vec![line])
}

async fn start(
    info: BootInfo,
    payload: Payload,
    devices: &mut Devices,
    control: Option<Arc<dyn Port>>,
    launcher: &Arc<Launcher>,
    signals: &Arc<Signals>,
    streams: &Streams,
) -> Result<Application, Failure> {
    let manifest = Manifest::read(payload.manifest).map_err(failed)?;
    let boot = told(&info, control, launcher, signals).await?;
    trace::want(boot.options.verbose == Some(true));
    devices.add_entropy().await;
    if !platform::is_random() {
        return Err(failed(
            "the machine has no source of random numbers; give it a virtio-rng device, or a processor with RDRAND"
                .into(),
        ));
    }
    let engine = engine::engine().map_err(|error| failed(format!("the engine can't be made: {error}")))?;
    engine::start_clock(&engine);
    let module = application::load(&engine, &manifest.app.name, payload.module).map_err(failed)?;
    launcher.say(&Said::Phase(Phase::Loaded));
    let needs_network = application::needs_network(&module, &manifest);
    if needs_network {
        start_network(&info, &boot, devices).map_err(failed)?;
    }
    let directories = directories(&info, &boot, devices).await.map_err(|line| mistakes(vec![line]))?;
    let parts = Parts {
        manifest,
        boot,
        module,
        streams: streams.clone(),
        directories,
        launcher: launcher.clone(),
        memory: info.memory,
    };
    let application = Application::new(parts).map_err(mistakes)?;
    if needs_network {
        net::ready().await.map_err(|error| failed(format!("the machine has no network: {error}")))?;
    }
    Ok(application)
}

/// Brings the network up, as the launcher says, or else the command line, or else the network itself. It goes on while
/// the application is made ready.
fn start_network(info: &BootInfo, boot: &Boot, devices: &mut Devices) -> Result<(), String> {
    let Some(card) = devices.network() else {
        return Err("the application serves or connects, and the machine has no network device; give it a virtio-net \
                    device"
            .into());
    };
    let words = command_line::words(&info.command_line);
    let settings = match (&boot.network, words.iter().find_map(|word| word.strip_prefix("ip="))) {
        (Some(network), _) => {
            let [gateway, nameserver, host] =
                [network.gateway, network.nameserver, network.host].map(|address| address.to_string());
            Settings::from_launcher(&network.address, &gateway, &nameserver, &host)?
        }
        (None, Some(word)) => Settings::from_ip_word(word)?,
        (None, None) => Settings::default(),
    };
    net::start(card, &virtio::network::ARRIVAL, &settings, info.memory);
    Ok(())
}

/// The directories of the host, as the module sees them.
async fn directories(info: &BootInfo, boot: &Boot, devices: &Devices) -> Result<Vec<Granted>, String> {
    let mut directories = mapped_files(info);
    for volume in &boot.volumes {
        let root = devices.volumes.attach(&volume.tag).await.map_err(|Errno(number)| {
            format!("--volume: {} can't be mounted: error {number} of WASI", volume.path)
        })?;
        directories.push(Granted { name: volume.path.clone().into_bytes(), root });
    }
    directories.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(directories)
}

/// The directories with the files that uhyve has mapped in: SLIGHT_FILE has the path of one, as often as there are some.
#[cfg(target_os = "none")]
fn mapped_files(info: &BootInfo) -> Vec<Granted> {
    if info.vmm != crate::boot::Vmm::Uhyve {
        return Vec::new();
    }
    let words = command_line::words(&info.command_line);
    let paths = words.iter().filter_map(|word| word.strip_prefix("SLIGHT_FILE=")).map(String::from);
    wasi::mapped::directories(&paths.collect::<Vec<_>>(), wasi::uhyve::open)
}

/// Only uhyve maps files in.
#[cfg(not(target_os = "none"))]
fn mapped_files(_: &BootInfo) -> Vec<Granted> {
    Vec::new()
}

/// What the launcher says, or else the command line, put into effect as far as it concerns the machine.
async fn told(
    info: &BootInfo,
    control: Option<Arc<dyn Port>>,
    launcher: &Arc<Launcher>,
    signals: &Arc<Signals>,
) -> Result<Boot, Failure> {
    let Some(port) = control else {
        return launcher::from_command_line(&info.command_line).map_err(|line| mistakes(vec![line]));
    };
    let mut reader = Reader::new(port);
    let boot = reader.boot().await.map_err(failed)?;
    platform::set_wall(boot.time);
    platform::add_entropy(&boot.seed);
    spawn(reader.obey(launcher.clone(), signals.clone())).detach();
    Ok(boot)
}

/// The launcher's channels. A device that doesn't name the first of them, the control channel, has none for us.
async fn ports(devices: &Devices) -> Ports {
    let mut ports = Ports::new();
    let Some(console) = &devices.console else { return ports };
    for name in [control::CONTROL, control::STDIN, control::STDIO, control::STDERR] {
        let Some(port) = console.port(name).await else { break };
        ports.insert(String::from(name), Arc::new(port));
    }
    ports
}

/// Standard streams: on the launcher's ports, or else on the console.
fn streams(ports: &Ports) -> Streams {
    let output = |name| {
        let output = Arc::new(Output::default());
        match ports.get(name).cloned() {
            Some(port) => spawn(output.clone().pump(port)).detach(),
            None => spawn(output.clone().pump(Console)).detach(),
        }
        output
    };
    let (stdout, stderr) = (output(control::STDIO), output(control::STDERR));
    log::redirect(stderr.clone());
    let stdin = ports.get(control::STDIN).cloned().map(|port| Arc::new(Input::new(FromPort(port))));
    Streams { stdin, stdout, stderr }
}

struct FromPort(Arc<dyn Port>);

impl Source for FromPort {
    fn read<'a>(&'a self, into: &'a mut [u8]) -> Pending<'a, Option<usize>> {
        alloc::boxed::Box::pin(async { Some(self.0.read(into).await) })
    }
}
