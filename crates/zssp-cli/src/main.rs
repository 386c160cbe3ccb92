//! The `zssp` command: keys, file transfer, measurements and a demonstration. See the README, or `zssp --help`.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod connect;
mod console;
mod cpu;
mod demo;
mod ethernet;
mod exit;
mod guests;
mod interrupt;
mod key_file;
mod measure;
mod pair;
mod peers;
mod ping;
mod place;
mod progress;
mod public_key_text;
mod purpose;
mod ratchets;
mod receive;
mod send;
mod serve;
mod transfer;
mod unwelcome;
mod values;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    args::{Cli, Command},
    console::Console,
    exit::{Exit, Failure},
    public_key_text::PublicKeyText,
};

fn main() -> ExitCode {
    let Cli { output, command } = Cli::parse();
    let console = Console::new(output);
    let result = run(command, &console).and_then(|exit| console.expect_delivered().map(|()| exit));
    let exit = result.unwrap_or_else(|failure| {
        console.error(&failure);
        failure.exit
    });
    exit.into()
}

fn run(command: Command, console: &Console) -> Result<Exit, Failure> {
    match command {
        Command::Keygen(args) => {
            let key = key_file::create(&args.file)?;
            console.result(PublicKeyText(key.public_key()));
            console.note(format_args!(
                "The secret key is in {}; keep it private. Above is the public key, for others.",
                args.file.display()
            ));
            Ok(Exit::Done)
        }
        Command::Pubkey(args) => {
            console.result(PublicKeyText(key_file::load(&args.file)?.public_key()));
            Ok(Exit::Done)
        }
        Command::Password => peers::password(console),
        Command::Peers(args) => peers::peers(&args, console),
        Command::Send(args) => in_runtime(send::send(args, console)),
        Command::Receive(args) => in_runtime(receive::receive(args, console)),
        Command::Ping(args) => in_runtime(ping::ping(args, console)),
        Command::Bench(args) => in_runtime(bench::bench(args, console)),
        Command::Serve(args) => in_runtime(serve::serve(args, console)),
        Command::Demo(args) => in_runtime(demo::demo(&args, console)),
    }
}

fn in_runtime(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(Exit::Local, format!("cannot start: {error}")))?;
    let result = runtime.block_on(command);
    // A thread that still waits for a disk must not keep the user waiting.
    runtime.shutdown_background();
    result
}
