package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"

	"manna/fallbacklog"
	"manna/internal/disk"
)

const (
	laneSuffix      = ".lane"
	laneVersion     = 1
	checkpointHead  = 56
	checkpointEntry = 16
)

var (
	laneMagic  = []byte("MANNALAN")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// errDamaged: a checkpoint does not read back what was written.
var errDamaged = errors.New("the checkpoint does not validate")

// checkpoint is what saves a lane work after a restart. See the package comment
// for its format and for why each part of it is enough.
type checkpoint struct {
	through fallbacklog.Position // the entries are exact for everything before
	low     fallbacklog.Position // where first deliveries go on
	touched fallbacklog.Position // no first delivery after it has been held
	mark    mark
	entries []entry
}

// mark is a record of the log that a checkpoint belongs to.
type mark struct {
	at   fallbacklog.Position
	time int64 // Unix nanoseconds
}

func (c *checkpoint) encode() []byte {
	b := make([]byte, 0, checkpointHead+len(c.entries)*checkpointEntry+4)
	b = append(b, laneMagic...)
	b = binary.LittleEndian.AppendUint32(b, laneVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.entries)))
	for _, p := range []fallbacklog.Position{c.through, c.low, c.touched, c.mark.at} {
		b = binary.LittleEndian.AppendUint64(b, uint64(p))
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(c.mark.time))
	for _, e := range c.entries {
		b = binary.LittleEndian.AppendUint64(b, uint64(e.due))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.at))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeCheckpoint(b []byte) (*checkpoint, error) {
	if len(b) < checkpointHead+4 || string(b[:8]) != string(laneMagic) {
		return nil, errDamaged
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(body):]) {
		return nil, errDamaged
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != laneVersion {
		return nil, fmt.Errorf("the checkpoint has format %d, this release reads %d", v, laneVersion)
	}
	n := int(binary.LittleEndian.Uint32(b[12:]))
	if checkpointHead+n*checkpointEntry != len(body) {
		return nil, errDamaged
	}
	position := func(at int) fallbacklog.Position { return fallbacklog.Position(binary.LittleEndian.Uint64(b[at:])) }
	c := &checkpoint{
		through: position(16), low: position(24), touched: position(32),
		mark:    mark{at: position(40), time: int64(binary.LittleEndian.Uint64(b[48:]))},
		entries: make([]entry, n),
	}
	for i := range c.entries {
		at := checkpointHead + i*checkpointEntry
		c.entries[i] = entry{due: int64(binary.LittleEndian.Uint64(b[at:])), at: position(at + 8)}
	}
	return c, nil
}

func lanePath(dir, partner string) string { return filepath.Join(dir, partner+laneSuffix) }

func readCheckpoint(d disk.Disk, path string) (*checkpoint, error) {
	f, err := d.OpenRead(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	} else if n < len(b) {
		return nil, errDamaged
	}
	return decodeCheckpoint(b)
}

// writeCheckpoint replaces a lane's checkpoint in one step.
func writeCheckpoint(d disk.Disk, dir, partner string, c *checkpoint) error {
	path := lanePath(dir, partner)
	temp := path + ".tmp"
	if err := d.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(c.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, d.Remove(temp))
	}
	// Commit point: the new checkpoint takes the place of the old one.
	if err := d.Rename(temp, path); err != nil {
		return err
	}
	return d.SyncDir(dir)
}
