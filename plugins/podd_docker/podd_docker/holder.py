"""The image of the holder: the container that keeps a pod's namespaces while members come and go.

dockerd shares the namespaces of a container that runs, so one must; and no registry may be needed for it. The image
holds one program, which is laid out here byte by byte: no compiler is asked for, and nobody's binary is trusted. It is
what a compiler makes of

    int main(void) {
        sigset_t wanted = {SIGINT, SIGTERM, SIGCHLD};
        sigprocmask(SIG_BLOCK, &wanted, NULL);
        for (int signal = SIGCHLD;; signal = sigtimedwait(&wanted, NULL, NULL)) {
            if (signal == SIGCHLD)
                while (wait4(-1, NULL, WNOHANG, NULL) > 0)
                    ;
            if (signal == SIGTERM || signal == SIGINT)
                _exit(0);
        }
    }

As the first process of a pid namespace it gets the pod's orphans, and reaps them; signals that it does not wait for are
not delivered to a first process.
"""

from __future__ import annotations

import io
import struct
import tarfile

_X86_64 = bytes.fromhex(
    "6802400100"  #    push 0x14002          1<<SIGINT-1 | 1<<SIGTERM-1 | 1<<SIGCHLD-1
    "b80e000000"  #    mov eax, 14           rt_sigprocmask(
    "31ff"  #          xor edi, edi            SIG_BLOCK,
    "4889e6"  #        mov rsi, rsp            &wanted,
    "31d2"  #          xor edx, edx            NULL,
    "41ba08000000"  #  mov r10d, 8             8)
    "0f05"  #          syscall
    "eb2c"  #          jmp reap
    "b880000000"  #    mov eax, 128    wait: rt_sigtimedwait(
    "4889e7"  #        mov rdi, rsp            &wanted,
    "31f6"  #          xor esi, esi            NULL,
    "31d2"  #          xor edx, edx            NULL,
    "41ba08000000"  #  mov r10d, 8             8)
    "0f05"  #          syscall
    "83f811"  #        cmp eax, 17           SIGCHLD
    "7413"  #          je reap
    "83f80f"  #        cmp eax, 15           SIGTERM
    "7405"  #          je end
    "83f802"  #        cmp eax, 2            SIGINT
    "75dd"  #          jne wait
    "b8e7000000"  #    mov eax, 231    end:  exit_group(
    "31ff"  #          xor edi, edi            0)
    "0f05"  #          syscall
    "b83d000000"  #    mov eax, 61     reap: wait4(
    "bfffffffff"  #    mov edi, -1             -1,
    "31f6"  #          xor esi, esi            NULL,
    "ba01000000"  #    mov edx, 1              WNOHANG,
    "4531d2"  #        xor r10d, r10d          NULL)
    "0f05"  #          syscall
    "85c0"  #          test eax, eax
    "7fe6"  #          jg reap
    "ebb8"  #          jmp wait
)

_AARCH64 = struct.pack(
    "<34I",
    *(0xD2880040, 0xF2A00020),  #              mov x0, 0x14002    as above
    0xF81F0FE0,  #                             str x0, [sp, -16]!
    0xD28010E8,  #                             mov x8, 135        rt_sigprocmask(
    *(0xD2800000, 0x910003E1),  #              mov x0, 0; x1, sp    SIG_BLOCK, &wanted,
    *(0xD2800002, 0xD2800103),  #              mov x2, 0; x3, 8     NULL, 8)
    0xD4000001,  #                             svc 0
    0x14000010,  #                             b reap
    0xD2801128,  #                       wait: mov x8, 137        rt_sigtimedwait(
    *(0x910003E0, 0xD2800001),  #              mov x0, sp; x1, 0    &wanted, NULL,
    *(0xD2800002, 0xD2800103),  #              mov x2, 0; x3, 8     NULL, 8)
    0xD4000001,  #                             svc 0
    *(0xF100441F, 0x54000100),  #              cmp x0, 17; b.eq reap
    *(0xF1003C1F, 0x54000060),  #              cmp x0, 15; b.eq end
    *(0xF100081F, 0x54FFFEA1),  #              cmp x0, 2; b.ne wait
    *(0xD2800BC8, 0xD2800000),  #        end:  mov x8, 94; x0, 0  exit_group(0)
    0xD4000001,  #                             svc 0
    *(0xD2802088, 0x92800000),  #        reap: mov x8, 260; x0, -1  wait4(-1,
    *(0xD2800001, 0xD2800022),  #              mov x1, 0; x2, 1     NULL, WNOHANG,
    *(0xD2800003, 0xD4000001),  #              mov x3, 0; svc 0     NULL)
    *(0xF100001F, 0x54FFFF2C),  #              cmp x0, 0; b.gt reap
    0x17FFFFE9,  #                             b wait
)

_CODE = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}
"""By machine: the number of the architecture (elf(5), e_machine), and the code."""

MACHINES = tuple(_CODE)
PROGRAM = "/podd-init"
IMAGE = "podd/holder:1"
"""The tag changes with what is in it."""

_BASE = 0x400000
_FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")


def program(machine: str) -> bytes:
    """An ELF file with one segment that holds everything, readable and executable. Source: elf(5).

    Raises KeyError: there is no code for this machine.
    """
    architecture, code = _CODE[machine]
    start = _FILE_HEADER.size + _SEGMENT.size
    size = start + len(code)
    identity = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
    executable, load, read_execute = 2, 1, 5
    sizes = (_FILE_HEADER.size, _SEGMENT.size, 1, 0, 0, 0)
    header = _FILE_HEADER.pack(identity, executable, architecture, 1, _BASE + start, _FILE_HEADER.size, 0, 0, *sizes)
    return header + _SEGMENT.pack(load, read_execute, 0, _BASE, _BASE, size, size, 0x10000) + code


def image(machine: str) -> bytes:
    """The root file system of the image, as a tar archive: the program alone."""
    content = program(machine)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(PROGRAM.lstrip("/"))
        entry.size, entry.mode = len(content), 0o555
        tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
