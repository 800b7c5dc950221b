//! From the plain tables of an image to the keys and values that the kernel
//! takes.

use std::collections::BTreeMap;

use aya::{Pod, maps::lpm_trie::Key};

/// Keys and values of a map, in two arrays of the same length, as a batch
/// wants them.
pub(crate) type Columns<K, V> = (Vec<K>, Vec<V>);

/// A longest-prefix-match table: the prefix length goes in front of the key
/// (`struct bpf_lpm_trie_key`).
pub(crate) fn prefixes<K: Pod>(table: &BTreeMap<(u32, K), u32>) -> Columns<Key<K>, u32> {
    table
        .iter()
        .map(|((length, key), row)| (Key::new(*length, *key), *row))
        .unzip()
}

/// An array: the key is the index.
pub(crate) fn indexed<V: Pod>(values: &[V]) -> Columns<u32, V> {
    (0..).zip(values.iter().copied()).unzip()
}

/// A hash.
pub(crate) fn hashed<K: Pod, V: Pod>(table: &BTreeMap<K, V>) -> Columns<K, V> {
    table.iter().map(|(key, value)| (*key, *value)).unzip()
}

#[cfg(test)]
mod tests {
    use hostfw_common::{
        policy::TableId,
        prefix::{PrefixV4, TABLE_BITS},
    };

    use super::*;

    #[test]
    fn a_prefix_key_is_its_length_then_the_key_in_wire_order() {
        let key = PrefixV4 {
            table: TableId {
                number: 0x0102_0304,
            },
            address: [10, 240, 0, 0],
        };
        let (keys, rows) = prefixes(&BTreeMap::from([((TABLE_BITS + 16, key), 7)]));
        assert_eq!(rows, [7]);
        // What the kernel copies: 4 bytes of length, then the data.
        // SAFETY: the key is packed and made of integers: no padding.
        let bytes: [u8; 12] = unsafe { std::mem::transmute(keys[0]) };
        assert_eq!(bytes[..4], 48_u32.to_ne_bytes());
        assert_eq!(bytes[4..8], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(bytes[8..], [10, 240, 0, 0]);
    }

    #[test]
    fn an_array_counts_from_zero() {
        assert_eq!(indexed(&[7_u64, 8]), (vec![0, 1], vec![7, 8]));
        assert_eq!(indexed::<u64>(&[]), (vec![], vec![]));
    }
}
