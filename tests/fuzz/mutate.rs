//! Changes inputs at random, always in the same way.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

const INPUT_BYTES_MAX: usize = 64 << 10;
/// Bytes at the edges of numbers and texts.
const BYTES: &[u8] =
    &[0, 1, 0x0a, 0x22, 0x25, 0x2d, 0x30, 0x7f, 0x80, 0xfb, 0xfc, 0xfd, 0xfe, 0xff];
/// What a number in a text becomes.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1e308",
    "NaN",
    "0.0000001",
    "N/A",
    "",
];

/// An endless row of changed inputs.
pub struct Mutator<'a> {
    inputs: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutator<'a> {
    /// The row of that name, made from these inputs.
    pub fn new(name: &str, inputs: &'a [Vec<u8>]) -> Self {
        // Its keys are fixed, so the row is the same on every machine.
        let mut hasher = DefaultHasher::new();
        hasher.write(name.as_bytes());
        Self { inputs, state: hasher.finish() }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.pick(self.inputs).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.random() % count.max(1) as u64).unwrap_or(0)
    }

    fn pick<'b, T>(&mut self, from: &'b [T]) -> Option<&'b T> {
        let at = self.below(from.len());
        from.get(at)
    }

    fn byte(&mut self) -> u8 {
        let any = self.random().to_le_bytes()[0];
        if self.below(2) == 0 { any } else { self.pick(BYTES).copied().unwrap_or(any) }
    }

    /// A short part of something.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let longest = if self.below(8) == 0 { length - start } else { 16 };
        start..(start + self.below(longest + 1)).min(length)
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len());
        match self.below(9) {
            0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
            1 if !input.is_empty() => input[at] = self.byte(),
            2 => {
                let bytes: Vec<u8> = (0..=self.below(8)).map(|_| self.byte()).collect();
                input.splice(at..at, bytes);
            }
            3 => {
                let part = self.part(input.len());
                input.drain(part);
            }
            4 => {
                let part = self.part(input.len());
                let copy = input[part].to_vec();
                input.splice(at..at, copy);
            }
            5 => {
                let other = self.pick(self.inputs).cloned().unwrap_or_default();
                let (theirs, ours) = (self.part(other.len()), self.part(input.len()));
                input.splice(ours, other[theirs].iter().copied());
            }
            6 => {
                let edge = if self.below(2) == 0 { 0 } else { u64::MAX };
                let number = edge ^ (self.random() % 512);
                let bytes = number.to_le_bytes();
                let width = *self.pick(&[2, 4, 8]).unwrap_or(&2);
                let end = (at + width).min(input.len());
                input[at..end].copy_from_slice(&bytes[..end - at]);
            }
            7 => self.change_number(input, at),
            _ => input.truncate(at),
        }
    }

    /// Puts another number in the place of the first one after `at`.
    fn change_number(&mut self, input: &mut Vec<u8>, at: usize) {
        let is_digit = |byte: &u8| byte.is_ascii_digit();
        let Some(start) = input[at..].iter().position(is_digit).map(|n| n + at) else { return };
        let length = input[start..].iter().take_while(|byte| is_digit(byte)).count();
        let number = self.pick(NUMBERS).copied().unwrap_or_default();
        input.splice(start..start + length, number.bytes());
    }
}
