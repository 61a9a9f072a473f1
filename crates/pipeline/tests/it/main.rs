//! The runner on stages that are shell scripts: what it promises does not depend on what stages do.

#[cfg(test)]
mod disks;
#[cfg(test)]
mod expansion;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod flips;
#[cfg(test)]
mod grammar;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod looking;
#[cfg(test)]
mod mutated;
#[cfg(test)]
mod planning;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod reproductions;
#[cfg(test)]
mod running;
#[cfg(test)]
mod showing;
#[cfg(test)]
mod together;
#[cfg(test)]
mod why;
