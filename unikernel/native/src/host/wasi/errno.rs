//! The errors that WASI's functions return, by their numbers in `wasi_snapshot_preview1.witx`.

/// An error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u16);

macro_rules! numbers {
    ($($name:ident $number:literal)*) => {
        impl Errno {
            $(pub const $name: Errno = Errno($number);)*
        }
    };
}

numbers! {
    ACCES 2 AGAIN 6 BADF 8 ILSEQ 25 INVAL 28 IO 29 ISDIR 31 LOOP 32 MFILE 33 NAMETOOLONG 37 NOENT 44 NOTDIR 54
    NOTSOCK 57 NOTSUP 58 PERM 63 PIPE 64 SPIPE 70
}
