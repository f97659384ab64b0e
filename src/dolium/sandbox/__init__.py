"""The library: programs in containers, as plain as subprocess."""
