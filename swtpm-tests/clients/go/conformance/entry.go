package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var entries = []named{
	{"an entry is stored with every field", createKeepsEveryField},
	{"each of a batch is created or refused by itself", createIsPerItem},
	{"an entry that says the same is answered with the one that is there", createFindsSimilar},
	{"an entry with a malformed field is refused", createRefusesMalformed},
	{"a batch is as long as its message may be", longBatches},
	{"an output mask narrows what is answered", masksNarrow},
	{"entries are listed by filters", listFilters},
	{"selectors are compared in four ways", listBySelectors},
	{"federated trust domains are compared in four ways", listByFederatesWith},
	{"a filter that is malformed is refused", filtersAreChecked},
	{"pages of any size show every entry once", listPages},
	{"an entry is got by its identifier", get},
	{"a mask says what is updated", updateByMask},
	{"without a mask everything is updated", updateWithoutMask},
	{"each of a batch is updated or refused by itself", updateIsPerItem},
	{"each of a batch is deleted or refused by itself", deleteIsPerItem},
	{"entries that ended are removed", endedAreRemoved},
}

// full is an entry with every field that a caller can set.
func full(path string) *types.Entry {
	return with(&types.Entry{
		Id:            "full" + strings.ReplaceAll(path, "/", "."),
		SpiffeId:      id(path),
		ParentId:      id("/full"),
		Selectors:     selectors("unix:gid:2", "unix:uid:1"),
		X509SvidTtl:   60,
		JwtSvidTtl:    30,
		FederatesWith: []string{"unknown.example"},
		Admin:         true,
		Downstream:    true,
		ExpiresAt:     time.Now().Add(time.Hour).Unix(),
		DnsNames:      []string{"db.example.org", "db"},
		Hint:          "internal",
	}, additionalAttributes, "\x08\x01\x10\x01")
}

func (s *server) get(id string) *types.Entry {
	return the(entryClient(s.local).GetEntry(s.ctx, &entryv1.GetEntryRequest{Id: id}))
}

func (s *server) remove(ids ...string) {
	deleted := the(entryClient(s.local).BatchDeleteEntry(s.ctx, &entryv1.BatchDeleteEntryRequest{Ids: ids}))
	for _, result := range deleted.Results {
		item(result.Status, codes.OK)
	}
}

func createKeepsEveryField(s *server) {
	wanted, before := full("/every/field"), time.Now().Unix()
	created := s.create(wanted)[0]
	if created.CreatedAt < before || created.CreatedAt > time.Now().Unix() {
		failf("created at %d", created.CreatedAt)
	}
	wanted.CreatedAt = created.CreatedAt
	same("created", created, wanted)
	same("stored", s.get(wanted.Id), wanted)

	stored := entry("/every", "/every/stored", func(entry *types.Entry) { entry.StoreSvid = true })
	equal("store_svid", s.create(stored)[0].StoreSvid, true)
	// An identifier is made up where none is given.
	made := s.create(entry("/every", "/every/other"))[0].Id
	equal("length of an identifier", len(made), 36)
	// Trust domains are taken as IDs, too.
	named := entry("/every", "/every/named", func(entry *types.Entry) { entry.FederatesWith = []string{"spiffe://other.example"} })
	equal("federates with", s.create(named)[0].FederatesWith, []string{"other.example"})
}

func createIsPerItem(s *server) {
	good, bad := entry("/items", "/items/good"), entry("/items", "")
	results := s.tryCreate(good, bad, good)
	equal("results", len(results), 3)
	item(results[0].Status, codes.OK, "OK")
	item(results[1].Status, codes.InvalidArgument)
	equal("entry of what is malformed", results[1].Entry, (*types.Entry)(nil))
	item(results[2].Status, codes.AlreadyExists)
	same("the entry that is there", results[2].Entry, results[0].Entry)
}

func createFindsSimilar(s *server) {
	there := s.create(full("/similar"))[0]
	similar := proto.Clone(there).(*types.Entry)
	similar.Id, similar.Hint, similar.Admin = "", "another", false
	slices.Reverse(similar.Selectors)
	result := s.tryCreate(similar)[0]
	item(result.Status, codes.AlreadyExists, "similar entry already exists")
	same("the entry that is there", result.Entry, there)

	for _, change := range []func(*types.Entry){
		func(entry *types.Entry) { entry.SpiffeId = id("/similar/not") },
		func(entry *types.Entry) { entry.ParentId = id("/similar/not") },
		func(entry *types.Entry) { entry.Selectors = selectors("unix:uid:1") },
	} {
		different := proto.Clone(similar).(*types.Entry)
		change(different)
		s.create(different)
	}
	taken := entry("/similar/taken", "/similar/taken", func(entry *types.Entry) { entry.Id = there.Id })
	item(s.tryCreate(taken)[0].Status, codes.AlreadyExists)
	same("what had the identifier", s.get(there.Id), there)
}

// malformed are entries with one field wrong, and what is said of it.
var malformed = []struct {
	change func(*types.Entry)
	says   string
}{
	{func(entry *types.Entry) { entry.ParentId = nil }, "invalid parent ID: request must specify SPIFFE ID"},
	{func(entry *types.Entry) { entry.ParentId.TrustDomain = "other.example" }, "invalid parent ID"},
	{func(entry *types.Entry) { entry.ParentId.Path = "no/slash" }, "invalid parent ID"},
	{func(entry *types.Entry) { entry.SpiffeId = nil }, "invalid spiffe ID: request must specify SPIFFE ID"},
	{func(entry *types.Entry) { entry.SpiffeId.TrustDomain = "other.example" }, `is not a member of trust domain "example.org"`},
	{func(entry *types.Entry) { entry.SpiffeId.TrustDomain = "UPPER" }, "invalid spiffe ID"},
	{func(entry *types.Entry) { entry.SpiffeId.Path = "/spire/agent/x" }, "invalid spiffe ID"},
	{func(entry *types.Entry) { entry.SpiffeId.Path = "" }, "path is empty"},
	{func(entry *types.Entry) { entry.SpiffeId.Path = "/trailing/" }, "invalid spiffe ID"},
	{func(entry *types.Entry) { entry.Selectors = nil }, "selector list is empty"},
	{func(entry *types.Entry) { entry.Selectors = selectors(":value") }, "missing selector type"},
	{func(entry *types.Entry) { entry.Selectors = selectors("type:") }, "missing selector value"},
	{func(entry *types.Entry) { entry.Selectors[0].Type = "a:b" }, "selector type contains ':'"},
	{func(entry *types.Entry) { entry.X509SvidTtl = -1 }, "TTL"},
	{func(entry *types.Entry) { entry.JwtSvidTtl = -1 }, "TTL"},
	{func(entry *types.Entry) { entry.FederatesWith = []string{"no domain"} }, "invalid federated trust domain"},
	{func(entry *types.Entry) { entry.DnsNames = []string{"-.example"} }, "invalid DNS name"},
	{func(entry *types.Entry) { entry.DnsNames = []string{""} }, "invalid DNS name"},
	{func(entry *types.Entry) { entry.Id = "with space" }, "entry ID contains invalid characters"},
	{func(entry *types.Entry) { entry.Id = strings.Repeat("x", 256) }, "entry ID too long"},
	{func(entry *types.Entry) { entry.Hint = strings.Repeat("x", 1025) }, "hint is too long, max length is 1024 characters"},
	{func(entry *types.Entry) {
		entry.StoreSvid, entry.Selectors = true, selectors("unix:uid:1", "docker:image:x")
	}, "selector types must be the same when store SVID is enabled"},
}

func createRefusesMalformed(s *server) {
	for i, malformed := range malformed {
		wrong := entry("/malformed", fmt.Sprintf("/malformed/%d", i))
		malformed.change(wrong)
		result := s.tryCreate(wrong)[0]
		item(result.Status, codes.InvalidArgument, "failed to convert entry: ", malformed.says)
		equal("entry of what is malformed", result.Entry, (*types.Entry)(nil))
	}
	longest := entry("/malformed", "/malformed/not", func(entry *types.Entry) {
		entry.Id, entry.Hint = strings.Repeat("x", 255), strings.Repeat("x", 1024)
	})
	s.create(longest)
}

func longBatches(s *server) {
	many := make([]*types.Entry, 1201)
	ids := make([]string, len(many))
	for i := range many {
		many[i] = entry("/long", fmt.Sprintf("/long/%d", i))
		many[i].Id = fmt.Sprintf("long-%d", i)
		ids[i] = many[i].Id
	}
	for i, created := range s.create(many...) {
		equal("identifier", created.Id, ids[i])
	}
	for i, result := range s.update(&types.EntryMask{}, many...) {
		item(result.Status, codes.OK)
		equal("identifier", result.Entry.Id, ids[i])
	}
	s.remove(ids...)

	many[0].Hint = strings.Repeat("x", 4<<20)
	_, err := entryClient(s.local).BatchCreateEntry(s.ctx, &entryv1.BatchCreateEntryRequest{Entries: many[:1]})
	// Servers made with Go's library say ResourceExhausted.
	refused(err, codes.OutOfRange, "length too large")
}

func masksNarrow(s *server) {
	nothing, name := &types.EntryMask{}, &types.EntryMask{SpiffeId: true}
	all := s.create(full("/masks"))[0]
	bare, named := &types.Entry{Id: all.Id}, &types.Entry{Id: all.Id, SpiffeId: all.SpiffeId}
	client := entryClient(s.local)

	same("got", the(client.GetEntry(s.ctx, &entryv1.GetEntryRequest{Id: all.Id, OutputMask: nothing})), bare)
	same("got", the(client.GetEntry(s.ctx, &entryv1.GetEntryRequest{Id: all.Id, OutputMask: name})), named)
	filter := &entryv1.ListEntriesRequest_Filter{BySpiffeId: all.SpiffeId}
	listed := the(client.ListEntries(s.ctx, &entryv1.ListEntriesRequest{Filter: filter, OutputMask: name}))
	same("listed", listed.Entries[0], named)
	update := &entryv1.BatchUpdateEntryRequest{Entries: []*types.Entry{all}, InputMask: nothing, OutputMask: nothing}
	same("updated", the(client.BatchUpdateEntry(s.ctx, update)).Results[0].Entry, bare)
	s.remove(all.Id)
	create := &entryv1.BatchCreateEntryRequest{Entries: []*types.Entry{full("/masks")}, OutputMask: name}
	same("created", the(client.BatchCreateEntry(s.ctx, create)).Results[0].Entry, named)
}

// list gives the last parts of the paths that a filter finds; the count has to agree.
func (s *server) list(filter *entryv1.ListEntriesRequest_Filter) string {
	listed := the(entryClient(s.local).ListEntries(s.ctx, &entryv1.ListEntriesRequest{Filter: filter}))
	equal("next page token", listed.NextPageToken, "")
	counted := the(entryClient(s.local).CountEntries(s.ctx, &entryv1.CountEntriesRequest{
		Filter: &entryv1.CountEntriesRequest_Filter{
			BySpiffeId:      filter.BySpiffeId,
			ByParentId:      filter.ByParentId,
			BySelectors:     filter.BySelectors,
			ByFederatesWith: filter.ByFederatesWith,
			ByHint:          filter.ByHint,
			ByDownstream:    filter.ByDownstream,
		},
	}))
	equal("count", int(counted.Count), len(listed.Entries))
	var names []string
	for _, entry := range listed.Entries {
		names = append(names, entry.SpiffeId.Path[strings.LastIndex(entry.SpiffeId.Path, "/")+1:])
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func listFilters(s *server) {
	s.create(
		entry("/filters/one", "/filters/a", func(entry *types.Entry) { entry.Hint = "internal" }),
		entry("/filters/one", "/filters/b", func(entry *types.Entry) { entry.Downstream, entry.Hint = true, "external" }),
		entry("/filters/two", "/filters/b", func(entry *types.Entry) { entry.Downstream = true }),
		// The parent of a node alias is the server.
		entry("/spire/server", "/filters/alias", func(entry *types.Entry) { entry.Selectors = selectors("filters:1") }),
	)
	check := func(filter *entryv1.ListEntriesRequest_Filter, want string) { equal("found", s.list(filter), want) }
	one, both := id("/filters/one"), wrapperspb.Bool
	check(&entryv1.ListEntriesRequest_Filter{BySpiffeId: id("/filters/b")}, "b b")
	check(&entryv1.ListEntriesRequest_Filter{BySpiffeId: id("/filters/nothing")}, "")
	check(&entryv1.ListEntriesRequest_Filter{ByParentId: one}, "a b")
	check(&entryv1.ListEntriesRequest_Filter{ByParentId: one, BySpiffeId: id("/filters/b")}, "b")
	check(&entryv1.ListEntriesRequest_Filter{ByParentId: one, ByDownstream: both(true)}, "b")
	check(&entryv1.ListEntriesRequest_Filter{ByParentId: one, ByDownstream: both(false)}, "a")
	check(&entryv1.ListEntriesRequest_Filter{ByParentId: one, ByHint: wrapperspb.String("internal")}, "a")
	check(&entryv1.ListEntriesRequest_Filter{ByParentId: one, ByHint: wrapperspb.String("nothing")}, "")
	check(&entryv1.ListEntriesRequest_Filter{ByParentId: one, ByHint: wrapperspb.String("")}, "a b")
	check(&entryv1.ListEntriesRequest_Filter{ByParentId: id("/spire/server")}, "alias")
	everything := the(entryClient(s.local).ListEntries(s.ctx, &entryv1.ListEntriesRequest{}))
	counted := the(entryClient(s.local).CountEntries(s.ctx, &entryv1.CountEntriesRequest{}))
	equal("count of all", int(counted.Count), len(everything.Entries))
}

func listBySelectors(s *server) {
	with := func(name string, texts ...string) *types.Entry {
		return entry("/selectors", "/selectors/"+name, func(entry *types.Entry) { entry.Selectors = selectors(texts...) })
	}
	s.create(with("a", "x:1"), with("ab", "x:1", "x:2"), with("abc", "x:1", "x:2", "x:3"), with("c", "x:3"))
	check := func(behaviour types.SelectorMatch_MatchBehavior, want string, texts ...string) {
		match := &types.SelectorMatch{Selectors: selectors(texts...), Match: behaviour}
		filter := &entryv1.ListEntriesRequest_Filter{ByParentId: id("/selectors"), BySelectors: match}
		equal(fmt.Sprintf("%v of %v", behaviour, texts), s.list(filter), want)
	}
	check(types.SelectorMatch_MATCH_EXACT, "ab", "x:2", "x:1")
	check(types.SelectorMatch_MATCH_EXACT, "", "x:2")
	check(types.SelectorMatch_MATCH_SUBSET, "a ab", "x:1", "x:2")
	check(types.SelectorMatch_MATCH_SUBSET, "", "x:9")
	check(types.SelectorMatch_MATCH_SUPERSET, "ab abc", "x:1", "x:2")
	check(types.SelectorMatch_MATCH_SUPERSET, "a ab abc", "x:1")
	check(types.SelectorMatch_MATCH_ANY, "a ab abc", "x:1", "x:9")
	check(types.SelectorMatch_MATCH_ANY, "abc c", "x:3")
}

func listByFederatesWith(s *server) {
	with := func(name string, domains ...string) *types.Entry {
		return entry("/federates", "/federates/"+name, func(entry *types.Entry) { entry.FederatesWith = domains })
	}
	s.create(with("none"), with("a", "a.example"), with("ab", "a.example", "b.example"), with("b", "b.example"))
	check := func(behaviour types.FederatesWithMatch_MatchBehavior, want string, domains ...string) {
		match := &types.FederatesWithMatch{TrustDomains: domains, Match: behaviour}
		filter := &entryv1.ListEntriesRequest_Filter{ByParentId: id("/federates"), ByFederatesWith: match}
		equal(fmt.Sprintf("%v of %v", behaviour, domains), s.list(filter), want)
	}
	check(types.FederatesWithMatch_MATCH_EXACT, "ab", "b.example", "a.example")
	check(types.FederatesWithMatch_MATCH_EXACT, "a", "spiffe://a.example")
	check(types.FederatesWithMatch_MATCH_SUBSET, "a ab b", "a.example", "b.example")
	check(types.FederatesWithMatch_MATCH_SUBSET, "a", "a.example", "c.example")
	check(types.FederatesWithMatch_MATCH_SUPERSET, "a ab", "a.example")
	check(types.FederatesWithMatch_MATCH_ANY, "ab b", "b.example", "c.example")
	check(types.FederatesWithMatch_MATCH_ANY, "", "c.example")
}

func filtersAreChecked(s *server) {
	check := func(filter *entryv1.ListEntriesRequest_Filter, says string) {
		_, err := entryClient(s.local).ListEntries(s.ctx, &entryv1.ListEntriesRequest{Filter: filter})
		refused(err, codes.InvalidArgument, says)
	}
	foreign := &types.SPIFFEID{TrustDomain: "other.example", Path: "/x"}
	check(&entryv1.ListEntriesRequest_Filter{BySpiffeId: foreign}, "malformed SPIFFE ID filter")
	check(&entryv1.ListEntriesRequest_Filter{ByParentId: foreign}, "malformed parent ID filter")
	check(&entryv1.ListEntriesRequest_Filter{BySelectors: &types.SelectorMatch{}}, "malformed selectors filter: empty selector set")
	check(&entryv1.ListEntriesRequest_Filter{BySelectors: &types.SelectorMatch{Selectors: selectors(":x")}}, "malformed selectors filter")
	check(&entryv1.ListEntriesRequest_Filter{ByFederatesWith: &types.FederatesWithMatch{}}, "malformed federates with filter: empty trust domain set")
	check(&entryv1.ListEntriesRequest_Filter{
		ByFederatesWith: &types.FederatesWithMatch{TrustDomains: []string{"no domain"}},
	}, "malformed federates with filter")
}

func listPages(s *server) {
	many := make([]*types.Entry, 1003)
	for i := range many {
		many[i] = entry("/pages", fmt.Sprintf("/pages/%d", i))
	}
	for batch := range slices.Chunk(many, 500) {
		s.create(batch...)
	}
	for _, size := range []int32{0, 2, 500, 501, 5000} {
		equal(fmt.Sprintf("entries on pages of %d", size), s.pages(size, "/pages"), len(many))
	}
	small := []*types.Entry{entry("/few", "/few/a"), entry("/few", "/few/b"), entry("/few", "/few/c")}
	s.create(small...)
	equal("entries on pages of 1", s.pages(1, "/few"), 3)
	equal("entries on pages of 3", s.pages(3, "/few"), 3)
	equal("entries on pages of nobody", s.pages(1, "/nobody"), 0)
}

// pages counts the entries on all pages.
func (s *server) pages(size int32, parent string) int {
	request := &entryv1.ListEntriesRequest{
		Filter:     &entryv1.ListEntriesRequest_Filter{ByParentId: id(parent)},
		OutputMask: &types.EntryMask{},
		PageSize:   size,
	}
	seen := map[string]bool{}
	for {
		page := the(entryClient(s.local).ListEntries(s.ctx, request))
		if size > 0 && len(page.Entries) > int(size) {
			failf("%d entries on a page of %d", len(page.Entries), size)
		}
		for _, entry := range page.Entries {
			equal("seen before", seen[entry.Id], false)
			seen[entry.Id] = true
		}
		if page.NextPageToken == "" {
			return len(seen)
		}
		equal("next page token", page.NextPageToken != request.PageToken, true)
		request.PageToken = page.NextPageToken
	}
}

func get(s *server) {
	created := s.create(entry("/get", "/get/it"))[0]
	same("got", s.get(created.Id), created)
	_, err := entryClient(s.local).GetEntry(s.ctx, &entryv1.GetEntryRequest{Id: "nothing"})
	refused(err, codes.NotFound, "entry not found")
	_, err = entryClient(s.local).GetEntry(s.ctx, &entryv1.GetEntryRequest{})
	refused(err, codes.InvalidArgument, "missing ID")
}

func (s *server) update(mask *types.EntryMask, wanted ...*types.Entry) []*entryv1.BatchUpdateEntryResponse_Result {
	request := &entryv1.BatchUpdateEntryRequest{Entries: wanted, InputMask: mask}
	return the(entryClient(s.local).BatchUpdateEntry(s.ctx, request)).Results
}

func updateByMask(s *server) {
	before := s.create(full("/update/mask"))[0]
	// Everything else in it is wrong, and not looked at.
	change := &types.Entry{Id: before.Id, Hint: "new", X509SvidTtl: -1}
	result := s.update(&types.EntryMask{Hint: true}, change)[0]
	item(result.Status, codes.OK)
	want := proto.Clone(before).(*types.Entry)
	want.Hint, want.RevisionNumber = "new", before.RevisionNumber+1
	same("updated", result.Entry, want)
	same("stored", s.get(before.Id), want)

	// What a caller does not decide stays, whatever the mask says.
	change = &types.Entry{Id: before.Id, RevisionNumber: 77, CreatedAt: 77}
	result = s.update(&types.EntryMask{RevisionNumber: true, CreatedAt: true}, change)[0]
	want.RevisionNumber++
	same("updated", result.Entry, want)
}

func updateWithoutMask(s *server) {
	before := s.create(full("/update/all"))[0]
	change := entry("/update", "/update/moved", func(entry *types.Entry) { entry.Id = before.Id })
	result := s.update(nil, change)[0]
	item(result.Status, codes.OK)
	want := proto.Clone(change).(*types.Entry)
	want.RevisionNumber, want.CreatedAt = before.RevisionNumber+1, before.CreatedAt
	same("updated", result.Entry, want)
	equal("found where it was", s.list(&entryv1.ListEntriesRequest_Filter{BySpiffeId: before.SpiffeId}), "")
	equal("found where it is", s.list(&entryv1.ListEntriesRequest_Filter{ByParentId: change.ParentId}), "moved")
}

func updateIsPerItem(s *server) {
	before := s.create(entry("/update/items", "/update/items/good"))[0]
	good := &types.Entry{Id: before.Id, Hint: "new"}
	wrong := &types.Entry{Id: before.Id, Hint: strings.Repeat("x", 1025)}
	results := s.update(&types.EntryMask{Hint: true}, wrong, &types.Entry{Id: "nothing"}, good)
	item(results[0].Status, codes.InvalidArgument, "failed to convert entry: hint is too long")
	item(results[1].Status, codes.NotFound, "entry not found")
	item(results[2].Status, codes.OK)
	equal("entry of what is refused", results[0].Entry, (*types.Entry)(nil))
	equal("revision", results[2].Entry.RevisionNumber, before.RevisionNumber+1)
	for i, malformed := range malformed {
		wrong := proto.Clone(before).(*types.Entry)
		if malformed.change(wrong); wrong.Id == before.Id {
			item(s.update(nil, wrong)[0].Status, codes.InvalidArgument, malformed.says)
		}
		equal(fmt.Sprintf("revision after %d", i), s.get(before.Id).RevisionNumber, before.RevisionNumber+1)
	}
}

func deleteIsPerItem(s *server) {
	created := s.create(entry("/delete", "/delete/it"))[0]
	ids := []string{created.Id, "nothing", "", created.Id}
	results := the(entryClient(s.local).BatchDeleteEntry(s.ctx, &entryv1.BatchDeleteEntryRequest{Ids: ids})).Results
	for i, code := range []codes.Code{codes.OK, codes.NotFound, codes.InvalidArgument, codes.NotFound} {
		item(results[i].Status, code)
		equal("identifier", results[i].Id, ids[i])
	}
	item(results[1].Status, codes.NotFound, "entry not found")
	item(results[2].Status, codes.InvalidArgument, "missing entry ID")
	_, err := entryClient(s.local).GetEntry(s.ctx, &entryv1.GetEntryRequest{Id: created.Id})
	refused(err, codes.NotFound)
}

func endedAreRemoved(s *server) {
	stays := s.create(entry("/ended", "/ended/not", func(entry *types.Entry) { entry.ExpiresAt = time.Now().Unix() + 3600 }))[0]
	goes := s.create(entry("/ended", "/ended/is", func(entry *types.Entry) { entry.ExpiresAt = time.Now().Unix() - 1 }))[0]
	var err error
	for err == nil {
		// The server removes in its own time; the deadline of all cases ends the wait.
		_, err = entryClient(s.local).GetEntry(s.ctx, &entryv1.GetEntryRequest{Id: goes.Id})
	}
	refused(err, codes.NotFound)
	same("one that did not end", s.get(stays.Id), stays)
}
