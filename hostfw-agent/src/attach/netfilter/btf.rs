//! Reads what the kernel tells of its own types (BTF): numbers of functions
//! and places of fields.
//!
//! The format is that of Documentation/bpf/btf.rst. aya_obj reads it too, but
//! shows no fields.

use std::{fs, io, path::Path};

const FOLDER: &str = "/sys/kernel/btf";
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why the kernel's types could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error("{file}: {error}")]
    Read {
        /// Its path.
        file: String,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// The file is not what the format says.
    #[error("{file}: expected BTF, found {found}")]
    Malformed {
        /// Its path.
        file: String,
        /// What is wrong with it.
        found: &'static str,
    },
    /// The kernel has no such thing.
    #[error("BTF: the kernel has no {0}")]
    Missing(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Struct,
    Union,
    Function,
    /// A name or a qualifier of another type.
    Alias,
    Other,
}

/// A type as it lies in the file.
#[derive(Clone, Copy, Debug)]
struct Type {
    name: u32,
    kind: Kind,
    /// Offsets of members hold the size of a bit field, too.
    bit_fields: bool,
    members: u32,
    /// Size, or the number of another type.
    size_or_type: u32,
    /// In which part it is, and where its members begin there.
    part: usize,
    at: usize,
}

/// The types of one file.
struct Part {
    bytes: Vec<u8>,
    /// Where each type begins.
    types: Vec<usize>,
    strings: usize,
    strings_length: usize,
}

/// The kernel's types, or those of the kernel and one of its modules.
pub(crate) struct Btf {
    /// The first type of a part has the number after the last one of the part
    /// before; strings likewise.
    parts: Vec<Part>,
}

impl Btf {
    /// The types that are built into the kernel.
    pub(crate) fn kernel() -> Result<Self, BtfError> {
        Ok(Self {
            parts: vec![Part::read(Path::new(VMLINUX))?],
        })
    }

    /// Adds the types of a module, if it is loaded and is no part of the
    /// kernel.
    pub(crate) fn add_module(&mut self, name: &str) -> Result<(), BtfError> {
        if Self::has_module(name) {
            self.parts.push(Part::read(&Path::new(FOLDER).join(name))?);
        }
        Ok(())
    }

    /// Whether a module is loaded that is no part of the kernel.
    pub(crate) fn has_module(name: &str) -> bool {
        Path::new(FOLDER).join(name).exists()
    }

    /// The number of a function.
    pub(crate) fn function(&self, name: &str) -> Result<u32, BtfError> {
        self.find(Kind::Function, name)
            .map(|(number, _)| number)
            .ok_or_else(|| BtfError::Missing(format!("function {name}")))
    }

    /// Whether there is a struct of this name.
    pub(crate) fn has_struct(&self, name: &str) -> bool {
        self.find(Kind::Struct, name).is_some()
    }

    /// Size of a struct in bytes.
    pub(crate) fn size(&self, name: &str) -> Result<u32, BtfError> {
        self.find(Kind::Struct, name)
            .map(|(_, found)| found.size_or_type)
            .ok_or_else(|| BtfError::Missing(format!("struct {name}")))
    }

    /// Where a field lies in a struct, in bytes. `path`: the field, and fields
    /// in it.
    pub(crate) fn offset(&self, name: &str, path: &[&str]) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing(format!("field {name}.{}", path.join(".")));
        let (_, mut outer) = self.find(Kind::Struct, name).ok_or_else(missing)?;
        let mut bits = 0;
        for field in path {
            let (at, number) = self.member(&outer, field).ok_or_else(missing)?;
            bits += at;
            outer = self.resolved(number).ok_or_else(missing)?;
        }
        if bits % 8 != 0 {
            return Err(missing());
        }
        Ok(bits / 8)
    }

    /// Offset in bits and type of a member, also of one in a member without
    /// name.
    fn member(&self, outer: &Type, name: &str) -> Option<(u32, u32)> {
        if !matches!(outer.kind, Kind::Struct | Kind::Union) {
            return None;
        }
        let part = self.parts.get(outer.part)?;
        for index in 0..outer.members {
            let at = outer.at + index as usize * 12;
            let (member, number) = (part.word(at)?, part.word(at + 4)?);
            let mut bits = part.word(at + 8)?;
            if outer.bit_fields {
                bits &= 0x00ff_ffff;
            }
            let found = self.text(member)?;
            if found == name.as_bytes() {
                return Some((bits, number));
            }
            if found.is_empty()
                && let Some(inner) = self.resolved(number)
                && let Some((inner_bits, number)) = self.member(&inner, name)
            {
                return Some((bits + inner_bits, number));
            }
        }
        None
    }

    /// The type behind names and qualifiers.
    fn resolved(&self, mut number: u32) -> Option<Type> {
        // Longer chains there are none; a circle would be one.
        for _ in 0..32 {
            let found = self.by_number(number)?;
            if found.kind != Kind::Alias {
                return Some(found);
            }
            number = found.size_or_type;
        }
        None
    }

    fn find(&self, kind: Kind, name: &str) -> Option<(u32, Type)> {
        let mut number = 1;
        for (index, part) in self.parts.iter().enumerate() {
            for &at in &part.types {
                let found = part.parse(at, index)?;
                if found.kind == kind && self.text(found.name) == Some(name.as_bytes()) {
                    return Some((number, found));
                }
                number += 1;
            }
        }
        None
    }

    fn by_number(&self, number: u32) -> Option<Type> {
        let mut index = (number as usize).checked_sub(1)?;
        for (part_index, part) in self.parts.iter().enumerate() {
            if let Some(&at) = part.types.get(index) {
                return part.parse(at, part_index);
            }
            index -= part.types.len();
        }
        None
    }

    fn text(&self, offset: u32) -> Option<&[u8]> {
        let mut offset = offset as usize;
        for part in &self.parts {
            if offset < part.strings_length {
                let text = part.bytes.get(part.strings + offset..)?;
                return text.split(|byte| *byte == 0).next();
            }
            offset -= part.strings_length;
        }
        None
    }
}

impl Part {
    fn read(path: &Path) -> Result<Self, BtfError> {
        let file = || path.display().to_string();
        let bytes = fs::read(path).map_err(|error| BtfError::Read {
            file: file(),
            error,
        })?;
        Self::new(bytes).map_err(|found| BtfError::Malformed {
            file: file(),
            found,
        })
    }

    fn new(bytes: Vec<u8>) -> Result<Self, &'static str> {
        const MAGIC: u32 = 0xeb9f;
        let word = |at| word(&bytes, at).ok_or("a header that is cut off");
        if word(0)? & 0xffff != MAGIC {
            return Err("another kind of file");
        }
        let header = word(4)? as usize;
        let (types, types_length) = (header + word(8)? as usize, word(12)? as usize);
        let (strings, strings_length) = (header + word(16)? as usize, word(20)? as usize);
        let end = types + types_length;
        if end > bytes.len() || strings + strings_length > bytes.len() {
            return Err("a file that is cut off");
        }
        let mut part = Self {
            bytes,
            types: Vec::new(),
            strings,
            strings_length,
        };
        let mut at = types;
        while at < end {
            part.types.push(at);
            let length = part.length(at).ok_or("a type of an unknown kind")?;
            at += length;
        }
        Ok(part)
    }

    fn word(&self, at: usize) -> Option<u32> {
        word(&self.bytes, at)
    }

    /// Length of a type in the file; `None` if its kind is not known.
    fn length(&self, at: usize) -> Option<usize> {
        let info = self.word(at + 4)?;
        let each = match (info >> 24) & 0x1f {
            // A word more: integers, variables, declaration tags.
            1 | 14 | 17 => return Some(16),
            // An array: element, index and length.
            3 => return Some(24),
            // Pointers, forward declarations, names, qualifiers, functions,
            // floats, type tags: nothing more.
            2 | 7..=12 | 16 | 18 => return Some(12),
            // Members, variables of a section, values of 64 bits.
            4 | 5 | 15 | 19 => 12,
            // Values, parameters.
            6 | 13 => 8,
            _ => return None,
        };
        Some(12 + (info & 0xffff) as usize * each)
    }

    fn parse(&self, at: usize, part: usize) -> Option<Type> {
        let info = self.word(at + 4)?;
        Some(Type {
            name: self.word(at)?,
            kind: match (info >> 24) & 0x1f {
                4 => Kind::Struct,
                5 => Kind::Union,
                12 => Kind::Function,
                8..=11 | 18 => Kind::Alias,
                _ => Kind::Other,
            },
            bit_fields: info >> 31 != 0,
            members: info & 0xffff,
            size_or_type: self.word(at + 8)?,
            part,
            at: at + 12,
        })
    }
}

/// The kernel writes its own byte order.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with these types and strings.
    fn part(types: &[u32], strings: &str) -> Part {
        let mut bytes = Vec::new();
        let length = types.len() as u32 * 4;
        for word in [
            0xeb9f | 1 << 16,
            24,
            0,
            length,
            length,
            strings.len() as u32,
        ] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings.as_bytes());
        Part::new(bytes).unwrap()
    }

    const INT: u32 = 1 << 24;
    const STRUCT: u32 = 4 << 24;
    const UNION: u32 = 5 << 24;
    const TYPEDEF: u32 = 8 << 24;
    const FUNCTION: u32 = 12 << 24;

    /// `int; union { int x; }; struct s { int a; <the union>; }; typedef struct s t; f`
    fn kernel() -> Part {
        #[rustfmt::skip]
        let types = [
            1, INT, 4, 32,
            0, UNION | 1, 4, /* x */ 9, 1, 0,
            5, STRUCT | 2, 8, /* a */ 7, 1, 0, /* anonymous */ 0, 2, 32,
            11, TYPEDEF, 3,
            13, FUNCTION, 1,
        ];
        part(&types, "\0int\0s\0a\0x\0t\0f\0")
    }

    #[test]
    fn fields_are_found_also_in_members_without_name() {
        let btf = Btf {
            parts: vec![kernel()],
        };
        assert_eq!(btf.offset("s", &["a"]).unwrap(), 0);
        assert_eq!(btf.offset("s", &["x"]).unwrap(), 4);
        assert_eq!(btf.size("s").unwrap(), 8);
        assert_eq!(btf.function("f").unwrap(), 5);
        assert_eq!(
            btf.offset("s", &["b"]).unwrap_err().to_string(),
            "BTF: the kernel has no field s.b"
        );
        assert!(btf.function("s").is_err(), "a struct is no function");
    }

    #[test]
    fn a_module_goes_on_counting_where_the_kernel_ends() {
        // struct m { int p; t q; }: the second of a type of the kernel's.
        let strings = "m\0p\0q\0";
        let base = 15;
        #[rustfmt::skip]
        let types = [
            base, STRUCT | 2, 12,
            base + 2, 1, 0,
            base + 4, 4, 32,
        ];
        let btf = Btf {
            parts: vec![kernel(), part(&types, strings)],
        };
        assert_eq!(btf.offset("m", &["q", "x"]).unwrap(), 8);
        assert!(btf.has_struct("m") && !btf.has_struct("n"));
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        assert_eq!(
            Part::new(b"\x7fELF and so on".to_vec()).err(),
            Some("another kind of file")
        );
        let mut cut_off = kernel().bytes;
        cut_off.pop();
        assert_eq!(Part::new(cut_off).err(), Some("a file that is cut off"));
        let unknown = [1, 31 << 24, 0];
        let mut bytes = Vec::new();
        for word in [0xeb9f, 24, 0, 12, 12, 0].into_iter().chain(unknown) {
            bytes.extend(u32::to_ne_bytes(word));
        }
        assert_eq!(Part::new(bytes).err(), Some("a type of an unknown kind"));
    }

    #[test]
    fn the_running_kernel_can_be_read() {
        // A kernel without BTF has no such file.
        let Ok(btf) = Btf::kernel() else {
            return;
        };
        assert!(btf.has_struct("sk_buff"));
        assert!(btf.offset("sk_buff", &["len"]).unwrap() < btf.size("sk_buff").unwrap());
    }
}
