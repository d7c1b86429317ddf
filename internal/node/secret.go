package node

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"manna/internal/disk"
)

// TokenFile is the name, in the data directory, of the admin port's token.
const TokenFile = "admin.token"

const (
	receiptFile = "receipt.key"
	// homeFile names the data directory among all that ever were.
	homeFile = "home.id"
)

// secret reads a secret of 32 random bytes in hex from a file of mode 0600, and
// makes it where it is missing.
func secret(d disk.Disk, dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	s, err := ReadSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	b := make([]byte, 32)
	if _, err := io.ReadFull(rand.Reader, b); err != nil {
		return "", err
	}
	s = hex.EncodeToString(b)
	temp := path + ".tmp"
	if err := d.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	f, err := d.Create(temp)
	if err != nil {
		return "", err
	}
	if _, err = f.WriteAt([]byte(s+"\n"), 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	return s, errors.Join(d.Rename(temp, path), d.SyncDir(dir))
}

// ReadSecret reads a secret that a node has written.
func ReadSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if raw, err := hex.DecodeString(s); err != nil || len(raw) != 32 {
		return "", fmt.Errorf("%s does not hold 64 hexadecimal digits: remove it, and the next start writes a new one", path)
	}
	return s, nil
}
