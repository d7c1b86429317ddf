package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/ledger"
)

// Registry tells which nodes there are; ledger.Registry says what it promises.
type Registry interface {
	Nodes(ctx context.Context) (nodes []ledger.Node, now time.Time, err error)
}

// ErrNoLog: a node that is to have a log in the archive has none.
var ErrNoLog = errors.New("it has no log in the archive")

const (
	// leaving is how long after its node has said that it leaves a manifest may still
	// be written.
	leaving = time.Minute

	silentRemedy  = "see that it runs and reaches the archive, or retire it where nothing more is to come of it"
	unknownRemedy = "no node of this name is registered: see whose it is, and move its folder out of the archive where it is nobody's"
)

// Archived gives the other nodes' logs as they are in an archive: of every node
// that is registered and not retired, and of every one that has a folder there.
// One with a folder that is not registered is waited for like any other, for its
// process may have started while nobody could be told; its remedy is to move the
// folder away. self is this node.
func Archived(archive *fallbacklog.Archive, registry Registry, self string) Others {
	return func(ctx context.Context) ([]Source, error) {
		// The registry first: a log that is as long as its node says that it left it
		// was so when the registry was asked, whatever the node does since.
		registered, _, err := registry.Nodes(ctx)
		if err != nil {
			return nil, err
		}
		folders, err := archive.Nodes(ctx)
		if err != nil {
			return nil, err
		}
		known := make(map[string]*ledger.Node, len(registered))
		for i := range registered {
			known[registered[i].Name] = &registered[i]
		}
		var list []Source
		for i := range folders {
			if name := folders[i].Node; name != self && !errors.Is(folders[i].Err, bucket.ErrNotFound) {
				list = append(list, openArchived(archive, &folders[i], known[name]))
				delete(known, name)
			}
		}
		for i := range registered {
			n := &registered[i]
			if known[n.Name] != nil && n.Name != self && n.State != ledger.NodeRetired {
				list = append(list, Source{Node: n.Name, Err: ErrNoLog, Remedy: silentRemedy})
			}
		}
		return list, nil
	}
}

// openArchived opens the log of a node that has a folder. A node that is not
// registered is nil.
func openArchived(archive *fallbacklog.Archive, folder *fallbacklog.ArchivedNode, n *ledger.Node) Source {
	s := Source{Node: folder.Node, Remedy: unknownRemedy}
	if n != nil {
		s.Remedy = silentRemedy
	}
	if folder.Err != nil {
		s.Err = fmt.Errorf("its log cannot be read: %w", folder.Err)
		return s
	}
	log := archive.OpenAs(folder.Manifest)
	s.Log, s.AsOf, s.Heard = log, log.AsOf(), log.Manifest().Written
	for _, segment := range log.Manifest().Segments {
		if !segment.First.IsZero() {
			s.First = segment.First
			break
		}
	}
	if n != nil {
		s.Retired = n.State == ledger.NodeRetired
		// Who writes manifests after it has left has been started again, and could tell
		// nobody.
		s.Ended = n.State == ledger.NodeLeft && log.End() >= n.LogEnd && s.Heard.Before(n.Seen.Add(leaving))
	}
	return s
}
