package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

var synchronization = []named{
	{"an agent is given what it may have, and no more", authorizedEntries},
	{"few entries come whole and end the call", fewComeWhole},
	{"a page of entries comes whole, one more does not", onePageAndMore},
	{"1,500 entries come as revisions, and whole for the asking", manyComeAsRevisions},
	{"what a first message can't say is refused", firstMessage},
}

// synchronized is what one call of SyncAuthorizedEntries gave.
type synchronized struct {
	entries   map[string]*types.Entry
	revisions map[string]int64
	// pages are how many items each message had.
	pages []int
}

var syncMask = &types.EntryMask{SpiffeId: true, RevisionNumber: true}

// synchronize asks for everything; of what comes as revisions, for those that differ from what is known.
func (s *server) synchronize(conn *grpc.ClientConn, known map[string]int64) synchronized {
	stream := the(entryClient(conn).SyncAuthorizedEntries(s.ctx))
	got := synchronized{entries: map[string]*types.Entry{}, revisions: map[string]int64{}}
	must(stream.Send(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: syncMask}))
	got.receive(stream)
	var wanted []string
	for id, revision := range got.revisions {
		if before, there := known[id]; !there || before != revision {
			wanted = append(wanted, id)
		}
	}
	for page := range slices.Chunk(wanted, 500) {
		must(stream.Send(&entryv1.SyncAuthorizedEntriesRequest{Ids: page}))
		got.receive(stream)
	}
	must(stream.CloseSend())
	_, err := stream.Recv()
	equal("end", err, io.EOF)
	return got
}

func (got *synchronized) receive(stream entryv1.Entry_SyncAuthorizedEntriesClient) {
	for more := true; more; {
		message := the(stream.Recv())
		more = message.More
		got.pages = append(got.pages, len(message.EntryRevisions)+len(message.Entries))
		for _, revision := range message.EntryRevisions {
			got.revisions[revision.Id] = revision.RevisionNumber
			equal("has a time of creation", revision.CreatedAt > 0, true)
		}
		for _, entry := range message.Entries {
			got.entries[entry.Id] = entry
		}
	}
}

func authorizedEntries(s *server) {
	svid, conn := s.agent()
	other, _ := s.agent()
	created := s.create(
		entry(svid.ID.Path(), "/authorized/child"),
		entry("/authorized/child", "/authorized/grandchild"),
		entry("/authorized/elsewhere", "/authorized/not"),
		entry(other.ID.Path(), "/authorized/others"),
		entry(svid.ID.Path(), "/authorized/ended", func(entry *types.Entry) { entry.ExpiresAt = time.Now().Unix() - 1 }),
	)
	all := the(entryClient(conn).GetAuthorizedEntries(s.ctx, &entryv1.GetAuthorizedEntriesRequest{})).Entries
	byPath := func(a, b *types.Entry) int { return len(a.SpiffeId.Path) - len(b.SpiffeId.Path) }
	slices.SortFunc(all, byPath)
	equal("entries", len(all), 2)
	same("child", all[0], created[0])
	same("grandchild", all[1], created[1])

	masked := &entryv1.GetAuthorizedEntriesRequest{OutputMask: &types.EntryMask{Hint: true}}
	for _, entry := range the(entryClient(conn).GetAuthorizedEntries(s.ctx, masked)).Entries {
		same("masked", entry, &types.Entry{Id: entry.Id})
	}
}

func fewComeWhole(s *server) {
	svid, conn := s.agent()
	equal("entries of a new agent", len(s.synchronize(conn, nil).entries), 0)
	created := s.create(entry(svid.ID.Path(), "/few/a"), entry(svid.ID.Path(), "/few/b"))
	got := s.synchronize(conn, nil)
	equal("messages", got.pages, []int{2})
	equal("revisions", len(got.revisions), 0)
	for _, created := range created {
		same("entry", got.entries[created.Id], &types.Entry{Id: created.Id, SpiffeId: created.SpiffeId})
	}
}

func onePageAndMore(s *server) {
	svid, conn := s.agent()
	page := make([]*types.Entry, 500)
	for i := range page {
		page[i] = entry(svid.ID.Path(), fmt.Sprintf("/page/%d", i))
	}
	s.create(page...)
	equal("messages of a page", s.synchronize(conn, nil).pages, []int{500})
	s.create(entry(svid.ID.Path(), "/page/more"))
	got := s.synchronize(conn, nil)
	equal("messages of one more", got.pages, []int{500, 1, 500, 1})
	equal("entries", len(got.entries), 501)

	// All of them in one request come on pages, too.
	stream := the(entryClient(conn).SyncAuthorizedEntries(s.ctx))
	must(stream.Send(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: syncMask}))
	again := synchronized{entries: map[string]*types.Entry{}, revisions: map[string]int64{}}
	again.receive(stream)
	must(stream.Send(&entryv1.SyncAuthorizedEntriesRequest{Ids: slices.Collect(maps.Keys(again.revisions))}))
	again.receive(stream)
	equal("messages", again.pages, []int{500, 1, 500, 1})
}

func manyComeAsRevisions(s *server) {
	svid, conn := s.agent()
	wanted := make([]*types.Entry, 1500)
	for i := range wanted {
		wanted[i] = entry(svid.ID.Path(), fmt.Sprintf("/many/%d", i))
	}
	var created []*types.Entry
	for batch := range slices.Chunk(wanted, 500) {
		created = append(created, s.create(batch...)...)
	}
	first := s.synchronize(conn, nil)
	equal("messages", first.pages, []int{500, 500, 500, 500, 500, 500})
	equal("entries", len(first.entries), len(created))
	for _, created := range created {
		want := &types.Entry{Id: created.Id, SpiffeId: created.SpiffeId, RevisionNumber: created.RevisionNumber}
		same("entry", first.entries[created.Id], want)
	}

	again := s.synchronize(conn, first.revisions)
	equal("messages when nothing differs", again.pages, []int{500, 500, 500})

	updated := proto.Clone(created[7]).(*types.Entry)
	updated.Hint = "new"
	item(s.update(nil, updated)[0].Status, codes.OK)
	s.remove(created[8].Id)
	added := s.create(entry(svid.ID.Path(), "/many/more"))[0]
	differs := s.synchronize(conn, first.revisions)
	equal("messages when two differ", differs.pages, []int{500, 500, 500, 2})
	equal("revision of the updated", differs.entries[updated.Id].GetRevisionNumber(), created[7].RevisionNumber+1)
	same("the added", differs.entries[added.Id], &types.Entry{Id: added.Id, SpiffeId: added.SpiffeId})
	if _, there := differs.revisions[created[8].Id]; there {
		failf("one that was deleted is there")
	}

	// Who asks for what is not there, or not for it, gets nothing of it.
	_, other := s.agent()
	of := s.create(entry("/many/elsewhere", "/many/of-nobody"))[0].Id
	equal("entries of another agent", len(s.synchronize(other, nil).entries), 0)
	stream := the(entryClient(conn).SyncAuthorizedEntries(s.ctx))
	must(stream.Send(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: syncMask}))
	got := synchronized{entries: map[string]*types.Entry{}, revisions: map[string]int64{}}
	got.receive(stream)
	must(stream.Send(&entryv1.SyncAuthorizedEntriesRequest{Ids: []string{of, created[8].Id, "nothing", added.Id}}))
	got.receive(stream)
	equal("entries for the asking", len(got.entries), 1)
}

func firstMessage(s *server) {
	_, conn := s.agent()
	check := func(request *entryv1.SyncAuthorizedEntriesRequest, says string) {
		stream := the(entryClient(conn).SyncAuthorizedEntries(s.ctx))
		must(stream.Send(request))
		_, err := stream.Recv()
		refused(err, codes.InvalidArgument, says)
	}
	check(&entryv1.SyncAuthorizedEntriesRequest{Ids: []string{"x"}}, "specifying IDs on initial request is not supported")
	check(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: &types.EntryMask{Hint: true}}, "revision number cannot be masked")
}
