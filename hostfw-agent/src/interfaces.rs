//! Interfaces and addresses of the node, followed by rtnetlink.
