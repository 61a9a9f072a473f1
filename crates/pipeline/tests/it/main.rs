//! The runner on stages that are shell scripts: what it promises does not depend on what stages do.

#[cfg(test)]
mod expansion;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod grammar;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod looking;
#[cfg(test)]
mod planning;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod running;
#[cfg(test)]
mod showing;
#[cfg(test)]
mod why;
