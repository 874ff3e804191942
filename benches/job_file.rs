//! How a large job file is read: `make bench-job-file`.
//!
//! 100 jobs of 100 streams of 10 days each, cut by `split = "1d"`: 100 000 exports that are parsed, checked and
//! resolved. Prints CPU seconds and the peak of resident memory. It measures and prints; it judges nothing.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use kvs_export::job::{self, JobSource};
use kvs_export::model::UtcMillis;

type Failure = Box<dyn Error + Send + Sync>;

const JOBS: usize = 100;
const STREAMS: usize = 100;
const DAYS: usize = 10;
/// 2024-04-01T00:00:00Z.
const NOW: UtcMillis = UtcMillis::new(1_711_929_600_000);

/// Ten days among them in which clocks are set.
fn job_file() -> Result<String, std::fmt::Error> {
    let mut text = String::from(
        "version = 1\n[defaults]\ntime_zone = \"America/Los_Angeles\"\nfrom = 2024-03-05\nto = 2024-03-15\n\
         split = \"1d\"\n",
    );
    for job in 0..JOBS {
        let streams: Vec<String> =
            (0..STREAMS).map(|stream| format!("\"site-{job:03}-camera-{stream:03}\"")).collect();
        write!(text, "[[job]]\nname = \"backfill-{job:03}\"\nstreams = [{}]\n", streams.join(", "))?;
    }
    Ok(text)
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn main() -> Result<(), Failure> {
    let text = job_file()?;
    let source = JobSource { text: &text, file: Path::new("/srv/cameras/jobs.toml"), display: "jobs.toml" };
    let (cpu_before, peak_before) = usage()?;
    let (_, exports) = job::load(source, NOW, &[]).map_err(|errors| errors.to_string())?;
    let (cpu, peak) = usage()?;
    if exports.len() != JOBS * STREAMS * DAYS {
        return Err(format!("{} exports", exports.len()).into());
    }
    println!(
        "job file: {} exports of {JOBS} jobs × {STREAMS} streams × {DAYS} days: {:.2} CPU s, VmHWM {:.1} MB ({:.1} MB before)",
        exports.len(),
        cpu - cpu_before,
        peak,
        peak_before
    );
    Ok(())
}

/// CPU seconds of this one thread, and the peak of the process's resident memory in MB, where `/proc` tells.
fn usage() -> Result<(f64, f64), Failure> {
    let spent = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanos: f64 = spent.split_whitespace().next().ok_or("no CPU time")?.parse()?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak")?;
    let kib: f64 = peak.split_whitespace().next().ok_or("no peak")?.parse()?;
    Ok((nanos / 1e9, kib * 1024.0 / 1e6))
}
