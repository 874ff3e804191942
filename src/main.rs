//! Parses the command line, runs the command, exits with its code.

fn main() {}
