//! `kvs-export emulator --fault …`, and the examples in the documentation.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use kvs_export::emulator::Disturbance;

const DOCUMENTS: [(&str, &str); 2] = [
    ("docs/emulator.md", include_str!("../../docs/emulator.md")),
    ("README.md", include_str!("../../README.md")),
];

#[test]
fn every_fault_in_the_documentation_is_accepted() {
    for (name, text) in DOCUMENTS {
        let words: Vec<&str> = text.split_whitespace().collect();
        let faults: Vec<&str> =
            words.windows(2).filter(|pair| pair[0] == "--fault").map(|pair| pair[1]).collect();
        assert!(!faults.is_empty(), "{name} has no example");
        for fault in faults {
            let read = Disturbance::parse(fault);
            assert!(read.is_ok(), "{name}: --fault {fault}: {read:?}");
        }
    }
}

/// The program as an archive for others; ends with the test.
struct Served {
    program: Child,
    address: String,
}

impl Served {
    fn with(arguments: &[&str]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_kvs-export"))
            .args(["emulator", "--port", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let stdout = program.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the endpoint");
        let address = line.trim().strip_prefix("http://").expect("an endpoint").to_owned();
        Self { program, address }
    }

    /// What comes back for a signed call, to the end of the connection; empty when it was reset.
    fn ask(&self, call: &str, body: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).expect("loopback");
        let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let request = format!(
            "POST /{call} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nx-amz-date: {date}\r\nauthorization: \
             AWS4-HMAC-SHA256 Credential=AK/20240301/us-west-2/kinesisvideo/aws4_request, SignedHeaders=host, \
             Signature={}\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            "a".repeat(64),
            body.len()
        );
        let mut answer = Vec::new();
        // A reset may come while the request is still being sent.
        if connection.write_all(request.as_bytes()).is_ok() {
            drop(connection.read_to_end(&mut answer));
        }
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

#[test]
fn faults_by_flag_befall_the_requests_they_are_for() {
    let served = Served::with(&[
        "--stream",
        "gate",
        "--stream",
        "yard",
        "--fault",
        "throttle:stream=gate,every=2",
        "--fault",
        "error:stream=yard,status=400,code=ConnectionLimitExceededException",
    ]);
    let ask = |stream| served.ask("describeStream", &format!("{{\"StreamName\":\"{stream}\"}}"));
    assert!(ask("gate").starts_with("HTTP/1.1 200 "));
    let throttled = ask("gate");
    assert!(
        throttled.starts_with("HTTP/1.1 400 ") && throttled.contains("ClientLimitExceeded"),
        "{throttled}"
    );
    assert!(ask("gate").starts_with("HTTP/1.1 200 "));
    assert!(ask("yard").contains("ConnectionLimitExceededException:"));
}

#[test]
fn a_service_that_is_away_by_flag_answers_nothing() {
    let served = Served::with(&["--stream", "gate", "--fault", "away:for=1h"]);
    assert_eq!(served.ask("describeStream", "{\"StreamName\":\"gate\"}"), "");
}

#[test]
fn a_fault_that_does_not_exist_is_a_usage_error_that_offers_the_right_one() {
    let asked = Command::new(env!("CARGO_BIN_EXE_kvs-export"))
        .args(["emulator", "--fault", "throtle:every=5"])
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&asked.stderr);
    assert_eq!((asked.status.code(), asked.stdout.is_empty()), (Some(2), true), "{said}");
    assert!(said.contains("did you mean \"throttle\"?") && said.contains("storm"), "{said}");
}
