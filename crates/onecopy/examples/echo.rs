//! Sends back what comes out of one queue through another, until the first is closed; then an array of how many values of
//! each kind that were. The other side may be a Python program: it starts this one, which finds its session in the
//! environment, with the handles of both queues as arguments.

use std::error::Error;

use onecopy::{Array, DType, Patience, Queue, QueueError, SharedObject, Value, session};

fn main() -> Result<(), Box<dyn Error>> {
    let mut handles = std::env::args().skip(1).map(|text| bytes(&text));
    let (Some(there), Some(back)) = (handles.next(), handles.next()) else {
        return Err("usage: echo HANDLE HANDLE, both in hexadecimal digits".into());
    };
    let (there, back) = (Queue::receive(&there?)?, Queue::receive(&back?)?);
    let mut counts = [0_i64; 8];
    loop {
        let value = match there.get(&Patience::FOREVER) {
            Err(onecopy::Error::Queue(QueueError::Closed)) => break,
            other => other?,
        };
        counts[kind_of(&value)] += 1;
        back.put(&value, &Patience::FOREVER)?;
    }
    let bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_ne_bytes()).collect();
    let counted = Array::copy_of(session()?, &bytes, DType::scalar("<i8")?, &[counts.len() as u64])?;
    Ok(back.put(&Value::Array(counted), &Patience::FOREVER)?)
}

fn kind_of(value: &Value) -> usize {
    match value {
        Value::None => 0,
        Value::Bool(_) => 1,
        Value::Int(_) => 2,
        Value::Float(_) => 3,
        Value::Str(_) => 4,
        Value::Bytes(_) | Value::Raw(_) => 5,
        Value::Array(_) => 6,
        Value::Pickle(_) => 7,
    }
}

fn bytes(hex: &str) -> Result<Vec<u8>, std::num::ParseIntError> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16)).collect()
}
