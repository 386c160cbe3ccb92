//! Runs sessions in memory and writes down everything that both sides draw, derive, send and see, in the format of
//! `testing/vectors`: for an independent reader to check this implementation with.
//!
//! `cargo run -p zssp-proto --example record -- DIR`

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, fs};

use zssp_harness::VARIANTS;
use zssp_harness::record::{plans, record};
use zssp_proto::crypto::Provider;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(directory), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: record DIR");
        return ExitCode::from(2);
    };
    match write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("record: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let provider = provider()?;
    fs::create_dir_all(directory)?;
    for (variant, _) in VARIANTS {
        for plan in plans() {
            let path = record(&plan, variant, &provider)?.save(directory)?;
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// The default provider, or the one that is compiled in instead.
#[allow(unreachable_code, reason = "which lines are reached depends on the features")]
fn provider() -> Result<Arc<dyn Provider>, &'static str> {
    #[cfg(feature = "aws-lc")]
    return Ok(Arc::new(zssp_proto::crypto::AwsLc));
    #[cfg(feature = "rust-crypto")]
    return Ok(Arc::new(zssp_proto::crypto::RustCrypto));
    Err("built without a cryptographic provider")
}
