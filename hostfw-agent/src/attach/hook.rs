//! Where a program can be attached, and in which order that is tried.

use std::{fmt, str::FromStr};

use hostfw_common::verdict::Direction;

/// Which hook judges incoming packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IngressChoice {
    /// Native XDP, else what measures best.
    #[default]
    Auto,
    /// XDP in the driver only.
    XdpNative,
    /// XDP in the network stack only.
    XdpGeneric,
    /// TC only.
    Tc,
}

/// How programs are attached at TC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcChoice {
    /// TCX, else clsact.
    #[default]
    Auto,
    /// TCX only (Linux 6.6).
    Tcx,
    /// A filter on the clsact queueing discipline only.
    Clsact,
}

/// A text that names no choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {expected}, found {found:?}")]
pub struct UnknownChoice {
    expected: &'static str,
    found: String,
}

impl UnknownChoice {
    pub(super) fn new(expected: &'static str, found: &str) -> Self {
        Self {
            expected,
            found: found.to_owned(),
        }
    }
}

impl FromStr for IngressChoice {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "auto" => Ok(Self::Auto),
            "xdp-native" => Ok(Self::XdpNative),
            "xdp-generic" => Ok(Self::XdpGeneric),
            "tc" => Ok(Self::Tc),
            _ => Err(UnknownChoice::new(
                "auto, xdp-native, xdp-generic, tc",
                text,
            )),
        }
    }
}

impl FromStr for TcChoice {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "auto" => Ok(Self::Auto),
            "tcx" => Ok(Self::Tcx),
            "clsact" => Ok(Self::Clsact),
            _ => Err(UnknownChoice::new("auto, tcx, clsact", text)),
        }
    }
}

/// A place where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookKind {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the network stack.
    XdpGeneric,
    /// TCX link.
    Tcx,
    /// Filter on the clsact queueing discipline.
    Clsact,
}

impl HookKind {
    /// `xdp`, `tcx` or `clsact`.
    #[must_use]
    pub const fn hook(self) -> &'static str {
        match self {
            Self::XdpNative | Self::XdpGeneric => "xdp",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }

    /// `native` or `generic`; `None` if there is only one way.
    #[must_use]
    pub const fn mode(self) -> Option<&'static str> {
        match self {
            Self::XdpNative => Some("native"),
            Self::XdpGeneric => Some("generic"),
            Self::Tcx | Self::Clsact => None,
        }
    }

    pub(super) const fn is_xdp(self) -> bool {
        matches!(self, Self::XdpNative | Self::XdpGeneric)
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mode) = self.mode() {
            write!(f, "{mode} ")?;
        }
        f.write_str(self.hook())
    }
}

/// A hook that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where.
    pub kind: HookKind,
    /// Why not the first choice, if so.
    pub fallback: Option<String>,
}

/// An interface whose packets are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Interface index.
    pub ifindex: u32,
    /// Where incoming packets are judged.
    pub ingress: Hook,
    /// Where outgoing packets are judged.
    pub egress: Hook,
}

/// What a driver without native XDP gets. TC comes first: generic XDP wants a
/// linear packet, so it copies what GRO has merged, while TC takes it as it
/// is. The order is a measurement's to decide, whose record belongs in
/// bench/runs.
const AFTER_NATIVE: [Fallback; 2] = [Fallback::Tc, Fallback::XdpGeneric];

#[derive(Clone, Copy)]
enum Fallback {
    Tc,
    XdpGeneric,
}

/// The hooks of a direction, best first. `link_header`: packets on the
/// interface begin with an Ethernet header.
pub(super) fn candidates(
    direction: Direction,
    ingress: IngressChoice,
    tc: TcChoice,
    link_header: bool,
) -> Vec<HookKind> {
    let tc: &[HookKind] = match tc {
        TcChoice::Auto => &[HookKind::Tcx, HookKind::Clsact],
        TcChoice::Tcx => &[HookKind::Tcx],
        TcChoice::Clsact => &[HookKind::Clsact],
    };
    match (direction, ingress) {
        (Direction::Egress, _) | (Direction::Ingress, IngressChoice::Tc) => tc.to_vec(),
        (Direction::Ingress, IngressChoice::XdpNative) => vec![HookKind::XdpNative],
        (Direction::Ingress, IngressChoice::XdpGeneric) => vec![HookKind::XdpGeneric],
        // What XDP sees of a packet without link-layer header is up to the
        // driver; TC sees it from the IP header on.
        (Direction::Ingress, IngressChoice::Auto) if !link_header => tc.to_vec(),
        (Direction::Ingress, IngressChoice::Auto) => {
            let mut kinds = vec![HookKind::XdpNative];
            for fallback in AFTER_NATIVE {
                match fallback {
                    Fallback::Tc => kinds.extend_from_slice(tc),
                    Fallback::XdpGeneric => kinds.push(HookKind::XdpGeneric),
                }
            }
            kinds
        }
    }
}

/// Takes native XDP from the hooks of an interface with members, and says why.
/// Drivers of such interfaces (bonding, hv_netvsc) run the program on the
/// members, where it is told the member's index, by which it finds no endpoint
/// and lets everything pass.
pub(super) fn without_native(kinds: &mut Vec<HookKind>, members: bool) -> Option<String> {
    if !members {
        return None;
    }
    kinds.retain(|kind| *kind != HookKind::XdpNative);
    Some(format!(
        "{}: would take the packets for those of the interface's members",
        HookKind::XdpNative
    ))
}

/// Takes XDP from the hooks of an interface with VLAN interfaces on it, and
/// says why. A device may take the tag off a frame (rx-vlan-offload) and tell
/// it beside: XDP takes the frame for the interface's own, TC does not.
pub(super) fn without_xdp(kinds: &mut Vec<HookKind>, vlans: bool) -> Option<String> {
    if !vlans {
        return None;
    }
    kinds.retain(|kind| !kind.is_xdp());
    Some("xdp: would not see the tags of the VLAN interfaces on it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_ingress_begins_with_native_xdp_and_ends_somewhere() {
        let kinds = candidates(
            Direction::Ingress,
            IngressChoice::Auto,
            TcChoice::Auto,
            true,
        );
        assert_eq!(kinds[0], HookKind::XdpNative);
        assert_eq!(kinds.len(), 4);
        assert!(kinds.contains(&HookKind::Clsact));
    }

    #[test]
    fn egress_is_never_xdp() {
        for ingress in [
            IngressChoice::Auto,
            IngressChoice::XdpNative,
            IngressChoice::XdpGeneric,
            IngressChoice::Tc,
        ] {
            let kinds = candidates(Direction::Egress, ingress, TcChoice::Auto, true);
            assert_eq!(kinds, [HookKind::Tcx, HookKind::Clsact]);
        }
    }

    #[test]
    fn a_choice_is_kept_to() {
        let ingress = |choice, tc| candidates(Direction::Ingress, choice, tc, true);
        assert_eq!(
            ingress(IngressChoice::XdpGeneric, TcChoice::Auto),
            [HookKind::XdpGeneric]
        );
        assert_eq!(
            ingress(IngressChoice::Tc, TcChoice::Clsact),
            [HookKind::Clsact]
        );
    }

    #[test]
    fn without_link_header_there_is_no_xdp() {
        let kinds = candidates(
            Direction::Ingress,
            IngressChoice::Auto,
            TcChoice::Auto,
            false,
        );
        assert!(kinds.iter().all(|kind| !kind.is_xdp()));
    }

    #[test]
    fn an_interface_with_members_has_no_native_xdp_even_if_asked_for() {
        for (choice, left) in [(IngressChoice::Auto, 3), (IngressChoice::XdpNative, 0)] {
            let all = candidates(Direction::Ingress, choice, TcChoice::Auto, true);
            let mut kinds = all.clone();
            assert_eq!(without_native(&mut kinds, false), None);
            assert_eq!(kinds, all);
            let reason = without_native(&mut kinds, true).unwrap();
            assert!(reason.starts_with("native xdp: "), "{reason}");
            assert_eq!(kinds.len(), left);
            assert!(!kinds.contains(&HookKind::XdpNative));
        }
    }

    #[test]
    fn an_interface_with_vlans_has_no_xdp_even_if_asked_for() {
        for (choice, left) in [(IngressChoice::Auto, 2), (IngressChoice::XdpGeneric, 0)] {
            let all = candidates(Direction::Ingress, choice, TcChoice::Auto, true);
            let mut kinds = all.clone();
            assert_eq!(without_xdp(&mut kinds, false), None);
            assert_eq!(kinds, all);
            assert!(without_xdp(&mut kinds, true).unwrap().contains("VLAN"));
            assert_eq!(kinds.len(), left);
        }
    }

    #[test]
    fn choices_have_the_names_of_the_flags() {
        assert_eq!("xdp-native".parse(), Ok(IngressChoice::XdpNative));
        assert_eq!("clsact".parse(), Ok(TcChoice::Clsact));
        assert_eq!(
            "xdp".parse::<IngressChoice>().unwrap_err().to_string(),
            "expected one of auto, xdp-native, xdp-generic, tc, found \"xdp\""
        );
    }
}
