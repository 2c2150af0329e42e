//! What only the whole system can show: the shape of the workspace, and the programs run together as real processes.

mod architecture;
mod chain;
mod documents;
mod faults;
mod licences;
mod packaging;
mod preflight;
mod site;
mod starts;
