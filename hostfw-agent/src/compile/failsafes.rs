//! Fail-safe ports as keys of the tries.

use hostfw_common::{
    endpoint::Family,
    failsafe::{FAILSAFE_BITS, FailsafeV4, FailsafeV6},
    verdict::Direction,
};

use super::{
    image::Image,
    limits::{CompileError, Limit},
    prefix::Prefix,
};
use crate::{
    model::{Failsafe, Kind, ObjectRef},
    select::Selection,
};

/// Adds the fail-safes of both directions.
pub(super) fn add(image: &mut Image, selection: &Selection) -> Result<(), CompileError> {
    for direction in Direction::ALL {
        let list = match direction {
            Direction::Ingress => &selection.failsafe_inbound,
            Direction::Egress => &selection.failsafe_outbound,
        };
        for (position, failsafe) in list.iter().enumerate() {
            add_one(image, direction, failsafe, position as u32);
        }
    }
    let found = image.failsafes_v4.len().max(image.failsafes_v6.len());
    if found > Limit::Failsafes.value() {
        return Err(CompileError {
            limit: Limit::Failsafes,
            found,
            object: ObjectRef {
                kind: Kind::FelixConfiguration,
                name: "default".to_owned(),
            },
            policy: None,
        });
    }
    Ok(())
}

fn add_one(image: &mut Image, direction: Direction, failsafe: &Failsafe, position: u32) {
    let direction = direction as u8;
    let protocol = failsafe.protocol;
    let port = failsafe.port.to_be_bytes();
    for family in Family::ALL {
        let remote = match &failsafe.net {
            None => Prefix::ALL,
            Some(net) => match Prefix::net(net, family) {
                Some(prefix) => prefix,
                None => continue,
            },
        };
        let length = FAILSAFE_BITS + remote.len();
        // Given twice, the first one counts.
        match family {
            Family::V4 => {
                let key = FailsafeV4 {
                    class: direction,
                    protocol,
                    port,
                    remote: remote.to_v4(),
                };
                image.failsafes_v4.entry((length, key)).or_insert(position);
            }
            Family::V6 => {
                let key = FailsafeV6 {
                    class: direction,
                    protocol,
                    port,
                    remote: remote.to_v6(),
                };
                image.failsafes_v6.entry((length, key)).or_insert(position);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failsafe(port: u16, net: Option<&str>) -> Failsafe {
        Failsafe {
            protocol: 6,
            port,
            net: net.map(|net| net.parse().unwrap()),
        }
    }

    #[test]
    fn a_net_limits_the_family_and_no_net_means_both() {
        let selection = Selection {
            failsafe_inbound: vec![
                failsafe(22, None),
                failsafe(80, Some("10.0.0.0/8")),
                failsafe(22, None),
            ],
            failsafe_outbound: vec![failsafe(53, Some("fd00::/8"))],
            ..Selection::default()
        };
        let mut image = Image::default();
        add(&mut image, &selection).unwrap();
        let v4: Vec<_> = image
            .failsafes_v4
            .iter()
            .map(|((length, key), position)| (*length, key.class, key.port, key.remote, *position))
            .collect();
        assert_eq!(
            v4,
            [
                (32, 0, [0, 22], [0, 0, 0, 0], 0),
                (40, 0, [0, 80], [10, 0, 0, 0], 1),
            ]
        );
        let v6: Vec<_> = image
            .failsafes_v6
            .iter()
            .map(|((length, key), position)| {
                (*length, key.class, key.port, key.remote[0], *position)
            })
            .collect();
        assert_eq!(v6, [(32, 0, [0, 22], 0, 0), (40, 1, [0, 53], 0xfd, 0)]);
    }

    #[test]
    fn too_many_are_refused() {
        let selection = Selection {
            failsafe_inbound: (0..5000).map(|port| failsafe(port, None)).collect(),
            ..Selection::default()
        };
        let error = add(&mut Image::default(), &selection).unwrap_err();
        assert_eq!((error.limit, error.found), (Limit::Failsafes, 5000));
    }
}
