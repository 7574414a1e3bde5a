//! Devices: finding them, network, channels to the launcher, random numbers, files.
