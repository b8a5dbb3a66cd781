//! Any bytes, and any damage of real handles: an error, or an array that lies inside its block.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onecopy::{Access, Array, ArrayHandle, DType, session};

/// Reads the first and the last byte of every item along each dimension's ends.
fn touch(array: &Array) {
    let Some(first) = array.address(Access::ReadOnly) else { return };
    if array.shape().contains(&0) || array.dtype().itemsize() == 0 {
        return;
    }
    let last = array.shape().iter().zip(array.strides()).map(|(&n, &step)| (n as i64 - 1).wrapping_mul(step));
    let (mut low, mut high) = (0_i64, array.dtype().itemsize() as i64 - 1);
    for reach in last {
        low = low.wrapping_add(reach.min(0));
        high = high.wrapping_add(reach.max(0));
    }
    for at in [low, 0, high] {
        // SAFETY: receiving the handle has promised that all items lie inside the block.
        unsafe { first.offset(at as isize).read_volatile() };
    }
}

fuzz_target!(|input: (Vec<(u8, u8)>, Vec<u8>)| {
    let (changes, raw) = input;
    let _ = ArrayHandle::decode(&raw);
    let arena = session().expect("this machine has a few MiB");
    let item = DType::scalar("<i4").expect("a type");
    let array = Array::zeros(arena, item, &[3, 4, 5]).expect("a few bytes");
    let mut handle = array.send().expect("a parcel");
    let sent = handle.clone();
    for (position, value) in changes {
        let at = usize::from(position) % handle.len();
        // Where the sender is stays true: the fuzzer shall not open what other programs have.
        if !(12..28).contains(&at) {
            handle[at] = value;
        }
    }
    for bytes in [&handle, &raw] {
        if let Ok(received) = Array::receive(bytes) {
            touch(&received);
        }
    }
    // Whatever the damaged one did, the real one is good for one receiver, and nothing stays.
    let _ = Array::receive(&sent);
    drop(array);
    arena.verify().expect("no handle damages an arena");
});
