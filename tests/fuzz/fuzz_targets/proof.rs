#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dmc_fuzz::run("proof", data);
});
