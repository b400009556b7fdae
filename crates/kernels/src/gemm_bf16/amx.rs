//! Products of tiles: AMX, whose intrinsics are not stable yet, in assembly.
//!
//! Source: Intel 64 and IA-32 Architectures Optimization Reference Manual, chapter on AMX: two by two tiles of sums
//! read each operand from the cache half as often as they use it.

use std::arch::asm;

/// Whether the system keeps the tiles of its threads, asked for by this process.
///
/// Ask once: each time is a system call.
pub(super) fn is_permitted() -> bool {
    is_enabled() && is_granted()
}

/// Whether the system has enabled the state of tiles (XCR0 bits 17 and 18).
fn is_enabled() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const TILES: u32 = 0b11 << 17;
    if std::arch::x86_64::__cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let enabled: u32;
    // SAFETY: with OSXSAVE the instruction is there; it reads a register.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _, options(nomem, nostack));
    }
    enabled & TILES == TILES
}

/// Linux gives tiles to processes that ask (Documentation/arch/x86/xstate.rst); threads inherit the permission.
#[cfg(target_os = "linux")]
fn is_granted() -> bool {
    const ARCH_PRCTL: u64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: the call takes two numbers and changes nothing but the permission.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn is_granted() -> bool {
    false
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of sixteen rows of 64 bytes.
static WHOLE: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// The tiles of this thread, whole. Dropping it gives them back: the system saves tiles in use whenever it takes the
/// core from a thread, and cores with tiles in use sleep less deeply.
pub(super) struct Tiles(std::marker::PhantomData<*const ()>);

impl Tiles {
    /// # Safety
    /// The CPU has AMX, and [`is_permitted`] said so.
    pub(super) unsafe fn configured() -> Self {
        // SAFETY: by contract; the configuration is one that every CPU with palette 1 takes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE, options(nostack, readonly));
        }
        Self(std::marker::PhantomData)
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the tiles were configured on this thread, which the type does not leave.
        unsafe {
            asm!("tilerelease", options(nostack, nomem));
        }
    }
}

/// What is multiplied, and where sums start and end.
///
/// Two blocks may be one and the same: its cells are then written twice, with equal bits.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    /// Two blocks of sixteen rows, a KiB a step.
    pub(super) x: [*const [u32; 16]; 2],
    /// Two panels side by side, a KiB of each a step.
    pub(super) w: *const [u32; 16],
    /// At least one.
    pub(super) steps: usize,
    pub(super) start: Cells<*const f32>,
    pub(super) end: Cells<*mut f32>,
}

impl Operands {
    /// Four tiles of sums: those of two blocks of sixteen rows, across two panels.
    ///
    /// # Safety
    /// What the fields tell is there to read, and the cells at `end` are there to write.
    #[inline(always)]
    pub(super) unsafe fn multiply(self, _configured: &Tiles) {
        let Operands {
            x,
            w,
            steps,
            start,
            end,
        } = self;
        // SAFETY: the tiles are configured; the rest by contract.
        unsafe {
            asm!(
                "tileloadd tmm0, [{s0} + {start_stride}]",
                "tileloadd tmm1, [{s0} + {start_stride} + 64]",
                "tileloadd tmm2, [{s1} + {start_stride}]",
                "tileloadd tmm3, [{s1} + {start_stride} + 64]",
                "2:",
                "tileloadd tmm4, [{x0} + {line}]",
                "tileloadd tmm6, [{w} + {line}]",
                "tileloadd tmm7, [{w} + {line} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{x1} + {line}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {x0}, 1024",
                "add {x1}, 1024",
                "add {w}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{e0} + {end_stride}], tmm0",
                "tilestored [{e0} + {end_stride} + 64], tmm1",
                "tilestored [{e1} + {end_stride}], tmm2",
                "tilestored [{e1} + {end_stride} + 64], tmm3",
                x0 = inout(reg) x[0] => _,
                x1 = inout(reg) x[1] => _,
                w = inout(reg) w => _,
                steps = inout(reg) steps => _,
                line = in(reg) 64_usize,
                s0 = in(reg) start.blocks[0],
                s1 = in(reg) start.blocks[1],
                start_stride = in(reg) start.stride,
                e0 = in(reg) end.blocks[0],
                e1 = in(reg) end.blocks[1],
                end_stride = in(reg) end.stride,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// Two blocks of sixteen rows of 32 cells, `stride` bytes from one row to the next.
#[derive(Clone, Copy)]
pub(super) struct Cells<P> {
    pub(super) blocks: [P; 2],
    pub(super) stride: usize,
}

impl Cells<*const f32> {
    /// The same 32 cells in every row.
    pub(super) fn alike(row: &[f32]) -> Self {
        assert_eq!(row.len(), 32, "a row of two tiles");
        Self {
            blocks: [row.as_ptr(); 2],
            stride: 0,
        }
    }
}
