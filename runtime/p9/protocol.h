/*
 * Numbers of 9P2000.L: 9P2000 (Plan 9 manual, section 5) with the messages that Linux' client speaks
 * (include/net/9p/9p.h and the protocol's description by the diod project).
 */
#ifndef AVANT_P9_PROTOCOL_H
#define AVANT_P9_PROTOCOL_H

#define P9_VERSION "9P2000.L"

/* Requests; the reply to a request has the next number. */
enum p9_type {
	P9_RLERROR = 7,
	P9_TSTATFS = 8,
	P9_TLOPEN = 12,
	P9_TLCREATE = 14,
	P9_TSYMLINK = 16,
	P9_TMKNOD = 18,
	P9_TRENAME = 20,
	P9_TREADLINK = 22,
	P9_TGETATTR = 24,
	P9_TSETATTR = 26,
	P9_TXATTRWALK = 30,
	P9_TXATTRCREATE = 32,
	P9_TREADDIR = 40,
	P9_TFSYNC = 50,
	P9_TLOCK = 52,
	P9_TGETLOCK = 54,
	P9_TLINK = 70,
	P9_TMKDIR = 72,
	P9_TRENAMEAT = 74,
	P9_TUNLINKAT = 76,
	P9_TVERSION = 100,
	P9_TAUTH = 102,
	P9_TATTACH = 104,
	P9_TFLUSH = 108,
	P9_TWALK = 110,
	P9_TREAD = 116,
	P9_TWRITE = 118,
	P9_TCLUNK = 120,
	P9_TREMOVE = 122,
};

#define P9_HEADER_SIZE       7  /* size[4] type[1] tag[2] */
#define P9_ERROR_SIZE        11 /* header, ecode[4] */
#define P9_READ_HEADER_SIZE  11 /* Rread, Rreaddir: header, count[4]; data follow */
#define P9_WRITE_HEADER_SIZE 23 /* Twrite: header, fid[4] offset[8] count[4]; data follow */
#define P9_QID_SIZE          13
#define P9_WALK_MAX          16 /* names in a Twalk */
#define P9_NO_FID            0xffffffffU

/* qid.type */
#define P9_QID_DIRECTORY 0x80
#define P9_QID_SYMLINK   0x02
#define P9_QID_FILE      0x00

/* Tlopen, Tlcreate: Linux' open flags as most architectures have them, whatever those of the host are. */
#define P9_OPEN_ACCESS    03
#define P9_OPEN_RDONLY    00
#define P9_OPEN_WRONLY    01
#define P9_OPEN_RDWR      02
#define P9_OPEN_EXCL      0200
#define P9_OPEN_TRUNC     01000
#define P9_OPEN_APPEND    02000
#define P9_OPEN_DSYNC     010000
#define P9_OPEN_DIRECTORY 0200000
#define P9_OPEN_SYNC      04000000

/* Tgetattr, Rgetattr */
#define P9_GETATTR_BASIC 0x7ffULL
#define P9_GETATTR_BTIME 0x800ULL
#define P9_GETATTR_GEN   0x1000ULL

/* Tsetattr */
#define P9_SETATTR_MODE      0x001U
#define P9_SETATTR_UID       0x002U
#define P9_SETATTR_GID       0x004U
#define P9_SETATTR_SIZE      0x008U
#define P9_SETATTR_ATIME     0x010U
#define P9_SETATTR_MTIME     0x020U
#define P9_SETATTR_CTIME     0x040U
#define P9_SETATTR_ATIME_SET 0x080U
#define P9_SETATTR_MTIME_SET 0x100U

#define P9_UNLINK_DIRECTORY 0x200U /* Tunlinkat's flags: AT_REMOVEDIR */

/* Tlock, Tgetlock */
enum p9_lock_type { P9_LOCK_READ, P9_LOCK_WRITE, P9_LOCK_UNLOCK };
enum p9_lock_status { P9_LOCK_SUCCESS, P9_LOCK_BLOCKED, P9_LOCK_ERROR };

#define P9_STATFS_TYPE 0x01021997 /* V9FS_MAGIC: what programs in the guest know a 9p mount by */

#endif
