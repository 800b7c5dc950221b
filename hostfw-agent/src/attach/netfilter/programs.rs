use std::{
    collections::HashSet,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya::Ebpf;
use aya_obj::{
    Object,
    generated::{BPF_CALL, BPF_JMP, BPF_PSEUDO_KFUNC_CALL, bpf_insn},
};
use hostfw_common::{
    layout::CALL_DYNPTR_FROM_SKB,
    names::{PROGRAM_FORWARD, PROGRAM_LOCAL_IN},
};

use super::{NetfilterError, layout::Kernel, links::Place};
use crate::{
    attach::object::map_fd,
    maps::bpf::{self, NetfilterProgram},
};

/// The programs of the netfilter hooks, loaded.
#[derive(Debug)]
pub(crate) struct Programs {
    local_in: OwnedFd,
    forward: OwnedFd,
    read_entries: bool,
}

impl Programs {
    /// Loads them on the maps that `ebpf` has loaded of the same object, with
    /// its BTF.
    ///
    /// aya knows no such programs, so it has not loaded them; here its parts
    /// are put together without it.
    pub(crate) fn load(
        mut object: Object,
        ebpf: &Ebpf,
        btf: Option<&OwnedFd>,
        kernel: &Kernel,
    ) -> Result<Self, NetfilterError> {
        let definitions = object.maps.clone();
        let maps: Vec<_> = ebpf
            .maps()
            .filter_map(|(name, map)| {
                let fd = map_fd(map)?.as_fd().as_raw_fd();
                Some((name, fd, definitions.get(name)?))
            })
            .collect();
        let text: HashSet<usize> = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        object.relocate_maps(maps.into_iter(), &text)?;
        object.relocate_calls(&text)?;
        let load = |name: &'static str| {
            let program = object
                .programs
                .get(name)
                .ok_or(NetfilterError::MissingProgram(name))?;
            let function = object
                .functions
                .get(&program.function_key())
                .ok_or(NetfilterError::MissingProgram(name))?;
            let mut instructions = function.instructions.clone();
            call_kernel(&mut instructions, kernel);
            bpf::load_program(NetfilterProgram {
                name,
                instructions: &instructions,
                licence: &program.license,
                functions: &function.func_info.func_info,
                lines: &function.line_info.line_info,
                btf: btf.map(|btf| btf.as_fd()),
            })
            .map_err(|error| NetfilterError::Program { name, error })
        };
        Ok(Self {
            local_in: load(PROGRAM_LOCAL_IN)?,
            forward: load(PROGRAM_FORWARD)?,
            read_entries: kernel.layout.packet_entry != 0,
        })
    }

    /// Whether they can read the entries of the kernel's connection tracking.
    pub(crate) const fn read_entries(&self) -> bool {
        self.read_entries
    }

    /// The program for a place.
    pub(crate) fn of(&self, place: Place) -> BorrowedFd<'_> {
        match place {
            Place::LocalIn => self.local_in.as_fd(),
            Place::Forward => self.forward.as_fd(),
        }
    }
}

/// Puts the numbers of the kernel's functions in the place of the calls that
/// stand for them.
fn call_kernel(instructions: &mut [bpf_insn], kernel: &Kernel) {
    for instruction in instructions {
        if u32::from(instruction.code) == BPF_JMP | BPF_CALL
            && instruction.src_reg() == 0
            && instruction.imm.cast_unsigned() == CALL_DYNPTR_FROM_SKB
        {
            instruction.set_src_reg(BPF_PSEUDO_KFUNC_CALL as u8);
            instruction.imm = kernel.dynptr_from_skb.cast_signed();
            // 0: of the kernel itself, not of a module.
            instruction.off = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_that_stand_for_a_kernel_function_are_changed() {
        let kernel = Kernel {
            layout: Default::default(),
            dynptr_from_skb: 4711,
        };
        let instruction = |code, imm: u32| {
            // SAFETY: a struct of integers.
            let mut instruction: bpf_insn = unsafe { std::mem::zeroed() };
            instruction.code = code;
            instruction.imm = imm.cast_signed();
            instruction
        };
        let call = (BPF_JMP | BPF_CALL) as u8;
        let mut instructions = [
            instruction(call, 1),
            instruction(call, CALL_DYNPTR_FROM_SKB),
            instruction(0xb7, CALL_DYNPTR_FROM_SKB),
        ];
        call_kernel(&mut instructions, &kernel);
        let seen = instructions.map(|i| (i.src_reg(), i.imm.cast_unsigned()));
        assert_eq!(
            seen,
            [
                (0, 1),
                (BPF_PSEUDO_KFUNC_CALL as u8, 4711),
                (0, CALL_DYNPTR_FROM_SKB)
            ]
        );
    }
}
