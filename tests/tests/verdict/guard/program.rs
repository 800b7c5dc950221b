//! The programs of the object, put together by hand: as the agent loads them, but
//! with the verifier's log, and open to be changed.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::CString,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    process::Command,
};

use aya::{
    maps::{MapData, MapInfo},
    programs::{Program, ProgramInfo},
};
use aya_obj::{
    Object,
    btf::BtfKind,
    generated::{
        BPF_CALL, BPF_F_XDP_HAS_FRAGS, BPF_JMP, BPF_PSEUDO_KFUNC_CALL, bpf_attach_type, bpf_attr,
        bpf_cmd, bpf_func_info, bpf_insn, bpf_prog_info, bpf_prog_type,
    },
};
use hostfw_agent::attach::object;
use hostfw_common::{
    layout::CALL_DYNPTR_FROM_SKB,
    names::{
        LASTING, PER_GENERATION, PROGRAM_FORWARD, PROGRAM_LOCAL_IN, PROGRAM_TC_EGRESS,
        PROGRAM_TC_INGRESS, PROGRAM_XDP,
    },
};

use super::super::lab::Lab;

/// Room for what the verifier says.
const LOG_BYTES: usize = 1 << 20;
/// `BPF_LOG_STATS` of the kernel's include/linux/bpf_verifier.h: no
/// instructions, only what they took in all.
const LOG_STATS: u32 = 4;

/// The maps of the lab's programs, by name, and their BTF.
pub(super) struct Maps {
    by_name: BTreeMap<String, OwnedFd>,
    btf: OwnedFd,
}

impl Maps {
    pub(super) fn of(lab: &Lab) -> Self {
        let mut by_name = BTreeMap::new();
        for name in LASTING.into_iter().chain(PER_GENERATION) {
            let map = MapData::from_pin(lab.pins().join("maps").join(name)).unwrap();
            let fd = map.fd().as_fd().try_clone_to_owned().unwrap();
            by_name.insert(name.to_owned(), fd);
        }
        for name in [PROGRAM_XDP, PROGRAM_TC_INGRESS, PROGRAM_TC_EGRESS] {
            for id in info(lab.program(name)).map_ids().unwrap().unwrap() {
                let map = MapInfo::from_id(id).unwrap();
                let name = map.name_as_str().unwrap().to_owned();
                let fd = map.fd().unwrap();
                by_name.insert(name, fd.as_fd().try_clone_to_owned().unwrap());
            }
        }
        let btf = info(lab.program(PROGRAM_XDP)).btf_id().unwrap();
        Self {
            by_name,
            btf: open_btf(btf),
        }
    }

    /// Those that the object declares, in its words. What only the netfilter
    /// programs have is made anew.
    fn of_object(&self, object: &Object) -> Vec<(String, OwnedFd)> {
        let of = |name: &String, map: &aya_obj::Map| {
            if let Some(fd) = self.by_name.get(&name[..name.len().min(15)]) {
                return fd.try_clone().unwrap();
            }
            let plain = aya_obj::Map::new_from_params(
                map.map_type(),
                map.key_size(),
                map.value_size(),
                map.max_entries(),
                map.map_flags(),
            );
            let made = MapData::create(plain, "guard", None)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            made.fd().as_fd().try_clone_to_owned().unwrap()
        };
        object
            .maps
            .iter()
            .map(|(name, map)| (name.clone(), of(name, map)))
            .collect()
    }
}

fn info(program: &Program) -> ProgramInfo {
    if let Program::Xdp(program) = program {
        program.info().unwrap()
    } else if let Program::SchedClassifier(program) = program {
        program.info().unwrap()
    } else {
        panic!("{program:?}")
    }
}

/// A program that could be loaded.
pub(super) struct Assembled<'a> {
    maps: &'a Maps,
    /// Open until the program is loaded.
    _fds: Vec<(String, OwnedFd)>,
    kind: bpf_prog_type,
    attach: bpf_attach_type,
    flags: u32,
    pub(super) instructions: Vec<bpf_insn>,
    pub(super) functions: Vec<bpf_func_info>,
    /// Of the functions that are exported, by number of the type.
    names: BTreeMap<u32, String>,
    licence: CString,
}

/// What the verifier says of a program that it takes.
pub(super) struct Verified {
    pub(super) program: OwnedFd,
    /// How many instructions it followed.
    pub(super) instructions: u32,
    /// Bytes of stack, by function.
    pub(super) stack: Vec<(String, u32)>,
}

/// Puts a program together.
pub(super) fn assemble<'a>(name: &str, maps: &'a Maps) -> Assembled<'a> {
    let mut object = Object::parse(object()).unwrap();
    let definitions = object.maps.clone();
    let fds = maps.of_object(&object);
    let text: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let by_name = fds
        .iter()
        .map(|(name, fd)| (name.as_str(), fd.as_raw_fd(), &definitions[name]));
    object.relocate_maps(by_name, &text).unwrap();
    object.relocate_calls(&text).unwrap();
    let program = &object.programs[name];
    let function = &object.functions[&program.function_key()];
    let (kind, attach, flags) = match name {
        PROGRAM_XDP => (
            bpf_prog_type::BPF_PROG_TYPE_XDP,
            bpf_attach_type::BPF_XDP,
            BPF_F_XDP_HAS_FRAGS,
        ),
        PROGRAM_LOCAL_IN | PROGRAM_FORWARD => (
            bpf_prog_type::BPF_PROG_TYPE_NETFILTER,
            bpf_attach_type::BPF_NETFILTER,
            0,
        ),
        _ => (
            bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS,
            bpf_attach_type::BPF_CGROUP_INET_INGRESS,
            0,
        ),
    };
    let mut instructions = function.instructions.clone();
    if kind == bpf_prog_type::BPF_PROG_TYPE_NETFILTER {
        call_kernel(&mut instructions);
    }
    let btf = object.btf.as_ref().unwrap();
    let names = object
        .functions
        .values()
        .map(|function| function.name.clone())
        .filter(|name| name.starts_with("hostfw_"))
        .filter_map(|name| Some((btf.id_by_type_name_kind(&name, BtfKind::Func).ok()?, name)))
        .collect();
    Assembled {
        maps,
        kind,
        attach,
        flags,
        instructions,
        functions: function.func_info.func_info.clone(),
        names,
        licence: program.license.clone(),
        _fds: fds,
    }
}

/// Has the program call the kernel's function, as the agent does: here its number
/// comes from bpftool.
fn call_kernel(instructions: &mut [bpf_insn]) {
    let dump = Command::new("bpftool")
        .args(["btf", "dump", "file", "/sys/kernel/btf/vmlinux"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&dump.stdout);
    let line = text
        .lines()
        .find(|line| line.contains("FUNC 'bpf_dynptr_from_skb'"))
        .unwrap();
    let number = line.trim_start_matches('[').split(']').next().unwrap();
    let number: i32 = number.parse().unwrap();
    for instruction in instructions {
        if u32::from(instruction.code) == BPF_JMP | BPF_CALL
            && instruction.src_reg() == 0
            && instruction.imm.cast_unsigned() == CALL_DYNPTR_FROM_SKB
        {
            instruction.set_src_reg(BPF_PSEUDO_KFUNC_CALL as u8);
            instruction.imm = number;
            instruction.off = 0;
        }
    }
}

impl Assembled<'_> {
    /// Has the kernel verify and load it.
    pub(super) fn load(&self) -> io::Result<Verified> {
        let mut log = vec![0_u8; LOG_BYTES];
        let mut attr = empty();
        // SAFETY: the part of the union that this command uses; all zeros is valid.
        let to = unsafe { &mut attr.__bindgen_anon_3 };
        to.prog_type = self.kind as u32;
        to.expected_attach_type = self.attach as u32;
        to.prog_flags = self.flags;
        to.insn_cnt = self.instructions.len() as u32;
        to.insns = self.instructions.as_ptr() as u64;
        to.license = self.licence.as_ptr() as u64;
        to.prog_btf_fd = self.maps.btf.as_raw_fd() as u32;
        to.func_info = self.functions.as_ptr() as u64;
        to.func_info_cnt = self.functions.len() as u32;
        to.func_info_rec_size = size_of::<bpf_func_info>() as u32;
        to.log_level = LOG_STATS;
        to.log_size = log.len() as u32;
        to.log_buf = log.as_mut_ptr() as u64;
        // SAFETY: everything pointed to outlives the call and is as long as is
        // said; it returns a new descriptor.
        let loaded = unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr) };
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(0);
        let log = String::from_utf8_lossy(&log[..end]);
        let program =
            loaded.map_err(|error| io::Error::other(format!("{error}; the verifier: {log}")))?;
        let of_line = |start: &str| {
            log.lines()
                .find_map(|line| line.strip_prefix(start))
                .unwrap_or_else(|| panic!("no line {start:?} in {log}"))
        };
        let processed = of_line("processed ").split(' ').next().unwrap();
        let functions = functions_of(program.as_fd());
        let depths: Vec<u32> = of_line("stack depth ")
            .split('+')
            .map(|depth| depth.trim().parse().unwrap())
            .collect();
        assert_eq!(depths.len(), functions.len(), "{log}");
        let mut stack: Vec<_> = functions
            .iter()
            .enumerate()
            .map(|(at, function)| match self.names.get(&function.type_id) {
                Some(name) => name.clone(),
                // The compiler made up its name, and may make up another.
                None => format!("local-{at}"),
            })
            .zip(depths)
            .collect();
        stack.sort();
        Ok(Verified {
            program,
            instructions: processed.parse().unwrap(),
            stack,
        })
    }
}

/// The functions that the verifier has left of a program, in order: what cannot
/// run is gone.
fn functions_of(program: BorrowedFd<'_>) -> Vec<bpf_func_info> {
    let none = bpf_func_info {
        insn_off: 0,
        type_id: 0,
    };
    let mut functions = vec![none; 256];
    // SAFETY: a struct of integers: all zeros is valid, and asks for nothing.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    info.func_info = functions.as_mut_ptr() as u64;
    info.nr_func_info = functions.len() as u32;
    info.func_info_rec_size = size_of::<bpf_func_info>() as u32;
    let mut attr = empty();
    attr.info.bpf_fd = program.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    // SAFETY: `info` is valid for writes of `info_len` bytes, and the functions for
    // as many as it says.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.unwrap();
    assert!(info.nr_func_info as usize <= functions.len());
    functions.truncate(info.nr_func_info as usize);
    functions
}

fn empty() -> bpf_attr {
    // SAFETY: a union of structs of integers: all zeros is valid.
    unsafe { std::mem::zeroed() }
}

/// # Safety
///
/// Every pointer in `attr` that the command uses must be valid for what the
/// command reads and writes there.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` is valid for its size; its pointers are, by contract.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// # Safety
///
/// As [`bpf`], and the command must be one that returns a new descriptor.
unsafe fn bpf_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: passed on.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn open_btf(id: u32) -> OwnedFd {
    let mut attr = empty();
    attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = id;
    // SAFETY: no pointers; returns a new descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attr) }.unwrap()
}

/// Runs a program once, with its context or none: what it returns.
pub(super) fn test_run(program: BorrowedFd<'_>, packet: &[u8], context: &[u8]) -> u32 {
    let mut attr = empty();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = packet.as_ptr() as u64;
    attr.test.data_size_in = packet.len() as u32;
    if !context.is_empty() {
        attr.test.ctx_in = context.as_ptr() as u64;
        attr.test.ctx_size_in = context.len() as u32;
    }
    // SAFETY: packet and context outlive the call, and nothing is written back but
    // numbers in `attr`.
    unsafe {
        bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).unwrap();
        attr.test.retval
    }
}
