#![no_main]

#[allow(dead_code)]
mod wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire::repl_stream(data));
