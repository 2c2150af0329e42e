//! Real processes, real sockets, faults: what only the whole system can show.
