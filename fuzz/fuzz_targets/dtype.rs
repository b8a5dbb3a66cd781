//! Any bytes are a data type that crosses again as it is, or are refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onecopy::DType;

fuzz_target!(|bytes: &[u8]| {
    let Ok(dtype) = DType::decode(bytes) else { return };
    let _ = dtype.itemsize();
    let mut again = Vec::new();
    dtype.encode(&mut again);
    assert_eq!(DType::decode(&again).expect("its own encoding"), dtype);
});
