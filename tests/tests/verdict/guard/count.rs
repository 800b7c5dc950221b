//! How often a program asks and changes maps for a packet.
//!
//! Counted by the program itself: ahead of each call of a helper that looks up,
//! writes or removes an element, instructions are put in that count it. So none
//! is missed, however the source comes to it, and the program has no trace of
//! this when it does real work.

use std::{
    fmt,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::maps::{Array, Map, MapData};
use aya_obj::generated::{
    BPF_CALL, BPF_EXIT, BPF_JA, BPF_JMP, BPF_JMP32, BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC,
    BPF_PSEUDO_MAP_VALUE, bpf_insn, bpf_map_type,
};
use hostfw_common::verdict::Verdict;

use super::{
    super::lab::{Hook, Lab},
    program::{Assembled, Maps, Verified, assemble, test_run},
};

/// `BPF_LD | BPF_DW | BPF_IMM`, which takes two places.
const LOAD_CONSTANT: u8 = 0x18;
/// `BPF_LDX | BPF_MEM | BPF_DW`
const LOAD: u8 = 0x79;
/// `BPF_ALU64 | BPF_ADD | BPF_K`
const ADD: u8 = 0x07;
/// `BPF_STX | BPF_MEM | BPF_DW`
const STORE: u8 = 0x7b;
/// The part of a jump's code that says which.
const OPERATION: u8 = 0xf0;

/// How often maps were asked and changed. A map within a map takes two look-ups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Calls([u64; 3]);

// SAFETY: integers without padding.
unsafe impl aya::Pod for Calls {}

impl Calls {
    /// The helpers, by their numbers in linux/bpf.h, and which place of the
    /// counts is theirs.
    const HELPERS: [(i32, usize); 3] = [
        // bpf_map_lookup_elem
        (1, 0),
        // bpf_map_update_elem
        (2, 1),
        // bpf_map_delete_elem
        (3, 2),
    ];
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [looked, written, removed] = self.0;
        write!(
            f,
            "{{ looked-up = {looked}, written = {written}, removed = {removed} }}"
        )
    }
}

/// A program that counts what it does.
pub(super) struct Counted {
    program: Verified,
    calls: Array<MapData, Calls>,
    hook: Hook,
}

impl Counted {
    pub(super) fn new(lab: &Lab, hook: Hook) -> Self {
        let plain = aya_obj::Map::new_from_params(
            bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
            size_of::<u32>() as u32,
            size_of::<Calls>() as u32,
            1,
            0,
        );
        let calls = MapData::create(plain, "guard", None).unwrap();
        let maps = Maps::of(lab);
        let mut program = assemble(hook.program(), &maps);
        count(&mut program, calls.fd().as_fd().as_raw_fd());
        Self {
            program: program.load().unwrap(),
            calls: Map::Array(calls).try_into().unwrap(),
            hook,
        }
    }

    /// Whether the packet passes, and what that took.
    pub(super) fn run(&mut self, packet: &[u8]) -> (bool, Calls) {
        self.calls.set(0, Calls::default(), 0).unwrap();
        let context = self.hook.context();
        let context = context.as_ref().map_or(&[][..], |context| context);
        let answer = test_run(self.program.program.as_fd(), packet, context);
        let passed = self.hook.verdict(answer) == Verdict::Pass;
        (passed, self.calls.get(&0, 0).unwrap())
    }
}

/// Puts in what counts.
///
/// Registers 0 and 5 are free there: the call overwrites both, and none of these
/// helpers takes a fifth argument.
fn count(program: &mut Assembled<'_>, counter: i32) {
    let old = std::mem::take(&mut program.instructions);
    // Where what counts for each of the old instructions begins, and the end.
    let mut begins = Vec::with_capacity(old.len() + 1);
    let mut length = 0;
    for instruction in &old {
        begins.push(length);
        length += 1 + place(instruction).map_or(0, |_| counting(0, 0).len());
    }
    begins.push(length);
    let mut is_second_half = false;
    for (at, instruction) in old.iter().enumerate() {
        let mut instruction = *instruction;
        if let Some(place) = place(&instruction) {
            program.instructions.extend(counting(counter, place));
        }
        let here = program.instructions.len();
        let moved = |distance: i32| {
            let target = usize::try_from(at as i64 + 1 + i64::from(distance)).unwrap();
            i32::try_from(begins[target] as i64 - here as i64 - 1).unwrap()
        };
        match jump(&instruction) {
            _ if is_second_half => {}
            Jump::None => {}
            Jump::Offset => {
                instruction.off = i16::try_from(moved(instruction.off.into())).unwrap();
            }
            Jump::Immediate => instruction.imm = moved(instruction.imm),
        }
        is_second_half = !is_second_half && instruction.code == LOAD_CONSTANT;
        program.instructions.push(instruction);
    }
    for function in &mut program.functions {
        function.insn_off = begins[function.insn_off as usize] as u32;
    }
}

/// The place of the count if the instruction calls one of the helpers.
fn place(instruction: &bpf_insn) -> Option<usize> {
    if u32::from(instruction.code) != BPF_JMP | BPF_CALL || instruction.src_reg() != 0 {
        return None;
    }
    let helpers = Calls::HELPERS.iter();
    helpers
        .filter(|(number, _)| *number == instruction.imm)
        .map(|(_, place)| *place)
        .next()
}

/// Where an instruction says how far it jumps or points.
enum Jump {
    None,
    Offset,
    Immediate,
}

fn jump(instruction: &bpf_insn) -> Jump {
    if instruction.code == LOAD_CONSTANT && u32::from(instruction.src_reg()) == BPF_PSEUDO_FUNC {
        return Jump::Immediate;
    }
    let class = u32::from(instruction.code & 7);
    if class != BPF_JMP && class != BPF_JMP32 {
        return Jump::None;
    }
    let operation = u32::from(instruction.code & OPERATION);
    if operation == BPF_CALL {
        if u32::from(instruction.src_reg()) == BPF_PSEUDO_CALL {
            Jump::Immediate
        } else {
            Jump::None
        }
    } else if operation == BPF_EXIT {
        Jump::None
    } else if operation == BPF_JA && class == BPF_JMP32 {
        Jump::Immediate
    } else {
        Jump::Offset
    }
}

fn counting(counter: i32, place: usize) -> [bpf_insn; 5] {
    let instruction = |code, dst, src, imm| {
        // SAFETY: a struct of integers.
        let mut instruction: bpf_insn = unsafe { std::mem::zeroed() };
        instruction.code = code;
        instruction.set_dst_reg(dst);
        instruction.set_src_reg(src);
        instruction.imm = imm;
        instruction
    };
    [
        instruction(LOAD_CONSTANT, 0, BPF_PSEUDO_MAP_VALUE as u8, counter),
        instruction(0, 0, 0, (place * size_of::<u64>()) as i32),
        instruction(LOAD, 5, 0, 0),
        instruction(ADD, 5, 0, 1),
        instruction(STORE, 0, 5, 0),
    ]
}
