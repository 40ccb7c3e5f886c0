"""Content, also of files that have lost their names."""

import mmap
import os
import threading

from small_things import case, made, outcome

# -- open files that lose their names


@case
def an_unlinked_file_can_be_read_and_written(folder):
    with open(made(folder), "r+b") as file:
        os.unlink(folder / "file")
        file.seek(0, 2)
        file.write(b" and more")
        file.flush()
        file.seek(0)
        return file.read(), os.fstat(file.fileno()).st_nlink, os.listdir(folder)


@case
def a_removed_folder_that_is_somebodys_place(folder):
    (folder / "d").mkdir()
    handle = os.open(folder / "d", os.O_RDONLY)
    try:
        os.rmdir(folder / "d")
        return outcome(os.listdir, handle), outcome(os.mkdir, "x", 0o777, dir_fd=handle)
    except TypeError:
        return None
    finally:
        os.close(handle)


@case
def an_unlinked_file_linked_again(folder):
    os.link(made(folder), folder / "second")
    with open(folder / "file", "rb"):
        os.unlink(folder / "file")
        os.link(folder / "second", folder / "third")
    return sorted(os.listdir(folder)), os.stat(folder / "third").st_nlink


@case
def truncated_while_open_elsewhere(folder):
    with open(made(folder, content=b"x" * 100_000), "rb") as file:
        os.truncate(folder / "file", 10)
        return file.read(), os.fstat(file.fileno()).st_size


# -- content


@case
def appending_from_two_handles(folder):
    with open(folder / "log", "ab", 0) as one, open(folder / "log", "ab", 0) as two:
        for number in range(20):
            (one if number % 2 else two).write(b"%d\n" % number)
    return (folder / "log").read_bytes()


@case
def writing_beyond_the_end(folder):
    with open(folder / "file", "wb") as file:
        file.seek(100_000)
        file.write(b"end")
    content = (folder / "file").read_bytes()
    return len(content), content.count(0)


@case
def a_file_cut_and_grown_again_has_zeros(folder):
    path = made(folder, content=b"x" * 10_000)
    os.truncate(path, 100)
    os.truncate(path, 10_000)
    return path.read_bytes().count(b"x"), path.stat().st_size


@case
def overlapping_writes(folder):
    handle = os.open(folder / "file", os.O_RDWR | os.O_CREAT)
    for at in (0, 4000, 2000, 4090, 131_000, 130_990):
        os.pwrite(handle, b"%6d" % at * 20, at)
    os.close(handle)
    return (folder / "file").read_bytes()


@case
def pread_past_the_end(folder):
    handle = os.open(made(folder), os.O_RDONLY)
    found = os.pread(handle, 10, 5), os.pread(handle, 10, 100)
    os.close(handle)
    return found


@case
def a_sparse_file_of_a_terabyte(folder):
    path = made(folder, content=b"")
    os.truncate(path, 1 << 40)
    with open(path, "rb") as file:
        file.seek((1 << 40) - 10)
        return file.read(), path.stat().st_size, path.stat().st_blocks < 100


@case
def a_size_that_nothing_can_have(folder):
    return outcome(os.truncate, made(folder), -1)


@case
def writing_where_one_may_only_read(folder):
    handle = os.open(made(folder), os.O_RDONLY)
    found = outcome(os.write, handle, b"x"), outcome(os.ftruncate, handle, 0)
    os.close(handle)
    return found


@case
def reading_where_one_may_only_write(folder):
    handle = os.open(made(folder), os.O_WRONLY)
    found = outcome(os.read, handle, 1)
    os.close(handle)
    return found


@case
def reading_a_folder_as_a_file(folder):
    handle = os.open(folder, os.O_RDONLY)
    found = outcome(os.read, handle, 1), outcome(os.open, folder, os.O_WRONLY)
    os.close(handle)
    return found


@case
def a_mapped_file_shared_with_its_writer(folder):
    path = made(folder, content=b"a" * 10_000)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[5000:5005] = b"12345"
        mapped.flush()
        os.pwrite(file.fileno(), b"67890", 6000)
        seen = bytes(mapped[6000:6005])
    return seen, (folder / "file").read_bytes()[5000:5005]


@case
def a_private_mapping_changes_nothing(folder):
    path = made(folder, content=b"a" * 5000)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[:4] = b"copy"
    return path.read_bytes()[:4]


@case
def sendfile_and_copy_file_range(folder):
    source = os.open(made(folder, content=os.urandom(0) + b"s" * 300_000), os.O_RDONLY)
    target = os.open(folder / "target", os.O_WRONLY | os.O_CREAT)
    sent = os.sendfile(target, source, 0, 100_000)
    copied = os.copy_file_range(source, target, 200_000, 100_000)
    os.close(source)
    os.close(target)
    return sent, copied, (folder / "target").stat().st_size


@case
def direct_and_synchronous_writes(folder):
    handle = os.open(folder / "file", os.O_WRONLY | os.O_CREAT | os.O_DSYNC)
    os.write(handle, b"x" * 5000)
    os.close(handle)
    return (folder / "file").stat().st_size


@case
def eight_threads_write_one_file(folder):
    handle = os.open(folder / "file", os.O_RDWR | os.O_CREAT)

    def write(number):
        for at in range(20):
            os.pwrite(handle, bytes([number]) * 1000, (at * 8 + number) * 1000)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(handle)
    content = (folder / "file").read_bytes()
    return len(content), all(content[i * 1000] == i % 8 for i in range(160))
