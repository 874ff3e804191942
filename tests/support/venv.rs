//! Programs from `PyPI`, pinned, in a folder below the build folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a step of the setting up, or says what it needs.
fn set_up(step: &mut Command, needs: &str) {
    match step.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "{step:?} failed ({needs}):\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => panic!("{step:?} cannot be started ({needs}): {error}"),
    }
}

/// The folder with the programs that a file of `tests/foreign` asks for; made when it is not there or holds other versions.
pub(crate) fn programs(name: &str, requirements: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let programs = folder.join("bin");
    let stamp = folder.join("installed.txt");
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(requirements);
    let asked = fs::read_to_string(&requirements).expect("the requirements");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == asked) {
        return programs;
    }
    set_up(
        Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder),
        "this test needs python3 with its venv module; on Debian: apt-get install python3-venv",
    );
    set_up(
        Command::new(programs.join("pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(requirements),
        "this test installs its clients from PyPI",
    );
    // Written last: an installation that was interrupted is made again.
    fs::write(&stamp, asked).expect("the stamp is written");
    programs
}
