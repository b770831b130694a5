%%% What happens in pools, as those hear it who subscribe, and handlers of Telemetry: which events come, with what in them, and
%%% that nobody who listens can do anything to a pool.
-module(sockpool_events_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([of_a_pool/1, of_an_unnamed_pool/1, phases/1, refused/1, crashes/1, closed/1, leak/1, revoked/1, slow_checkout/1, slow_request/1, of_a_worker/1, checks/1, failed_check/1, stalled/1,
         filters/1, nobody_listens/1, ring/1, slow_handler/1, raising_handler/1, handler_that_ends/1, dead_subscriber/1,
         subscriber_is_behind/1, process_ends/1, process_is_slow/1, without_the_application/1, bad_arguments/1, table_of_the_document/1]).

-import(sockpool_test_util, [wait_until/1]).
-import(sockpool_docs_kit, [lines/1]).

-define(PATIENCE_MS, 20000).

suite() -> [{timetrap, {seconds, 40}}].

all() ->
    [of_a_pool, of_an_unnamed_pool, phases, refused, crashes, closed, leak, revoked, slow_checkout, slow_request, of_a_worker, checks, failed_check, stalled, filters, nobody_listens, ring,
     slow_handler, raising_handler, handler_that_ends, dead_subscriber, subscriber_is_behind, process_ends, process_is_slow,
     without_the_application, bad_arguments, table_of_the_document].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> ok.

init_per_testcase(Case, Config) ->
    Pool = list_to_atom(lists:concat(["events_", Case])),
    Server = sockpool_test_server:start(),
    [{pool, Pool}, {server, Server} | Config].

end_per_testcase(_Case, Config) ->
    ok = sockpool_test_telemetry:unload(),
    {ok, _} = application:ensure_all_started(sockpool),
    _ = sockpool:stop_pool(?config(pool, Config)),
    sockpool_test_server:stop(?config(server, Config)).

options(Config) -> options(#{}, Config).

options(More, Config) -> maps:merge(maps:merge(sockpool_test_server:target(?config(server, Config)), #{size => 1, packet => line}), More).

subscribed(Config) ->
    Pool = ?config(pool, Config),
    {ok, _} = sockpool:subscribe(Pool),
    Pool.

%% The next event of that name; others before it are dropped. What is in it is what the table says.
next(Words) ->
    Event = [sockpool | Words],
    receive
        {sockpool_event, Event, Measurements, Metadata} ->
            {Event, Numbers, Facts, _Severity} = sockpool_event_table:row(Event),
            ?assertEqual({Event, lists:sort(Numbers)}, {Event, lists:sort(maps:keys(Measurements))}),
            ?assertEqual({Event, []}, {Event, maps:keys(Metadata) -- [pool, node | Facts]}),
            ?assertEqual({Event, []}, {Event, [pool, node | Facts -- [error]] -- maps:keys(Metadata)}),
            ?assertEqual(node(), maps:get(node, Metadata)),
            {Measurements, Metadata};
        {sockpool_event, _, _, _} ->
            next(Words)
    after ?PATIENCE_MS ->
        error({no_event, Event})
    end.

%% Of that pool, those that are kept, oldest first.
kept(Pool) -> kept(Pool, notice).

kept(Pool, Severity) ->
    [Event || #{metadata := #{pool := Of}} = Event <- sockpool_events:recent(0, Severity), Of =:= Pool].

%% The suite of pools without a name sees that none is kept by that.
of_an_unnamed_pool(Config) ->
    {ok, Pool} = sockpool:start_pool(options(Config)),
    {ok, Subscription} = sockpool:subscribe(Pool),
    ok = sockpool:resize(Pool, 4, 1),
    {#{size := 4}, #{pool := Pool}} = next([pool, resized]),
    ok = sockpool:unsubscribe(Subscription),
    Text = list_to_binary(ref_to_list(Pool)),
    wait_until(fun() -> lists:member([sockpool, pool, resized], [Event || #{event := Event} <- kept(Text)]) end),
    ok = sockpool:stop_pool(Pool).

of_a_pool(Config) ->
    Pool = subscribed(Config),
    ok = sockpool:start_pool(Pool, options(#{size => 2, max_overflow => 3}, Config)),
    {#{size := 2, max_overflow := 3}, #{reason := start}} = next([pool, started]),
    {_, #{peer := {{127, 0, 0, 1}, Port}}} = next([connect, stop]),
    ?assertEqual(sockpool_test_server:port(?config(server, Config)), Port),
    {#{duration := Duration, size := 2}, _} = next([pool, ready]),
    ?assert(Duration > 0),
    ok = sockpool:update(Pool, #{size => 1, checkout_timeout => 7, max_hold => 9000}),
    {#{size := 1, max_overflow := 3}, _} = next([pool, resized]),
    {_, #{options := [checkout_timeout, max_hold]}} = next([pool, updated]),
    ok = sockpool:stop_pool(Pool),
    {_, #{reason := shutdown}} = next([pool, stopped]),
    Kept = kept(Pool),
    ?assertEqual([started, ready, resized, updated, stopped], [lists:last(Event) || #{event := Event} <- Kept]),
    Ids = [Id || #{id := Id} <- Kept],
    ?assertEqual(lists:usort(Ids), Ids).

%% How long an attempt took is in its parts: a name that is looked up, and an `init' that takes its time.
phases(Config) ->
    Pool = subscribed(Config),
    Init = fun(_Conn) -> timer:sleep(20), ok end,
    ok = sockpool:start_pool(Pool, options(#{host => ["localhost"], init => Init}, Config)),
    {#{duration := Duration, resolve := Resolve, tcp := Tcp, tls := 0, init := Took}, Facts} = next([connect, stop]),
    ?assertMatch(#{host := <<"localhost">>, transport := tcp, attempt := 1, reused_session := false}, Facts),
    ?assertNot(is_map_key(error, Facts)),
    ?assert(Took >= erlang:convert_time_unit(20, millisecond, native)),
    ?assert(Resolve > 0 andalso Tcp > 0),
    ?assert(Duration >= Resolve + Tcp + Took).

%% Each attempt is an event; of those that are alike one is kept.
refused(Config) ->
    Pool = subscribed(Config),
    ok = sockpool_test_server:down(?config(server, Config)),
    ok = sockpool:start_pool(Pool, options(#{backoff => {1, 2}}, Config)),
    [{_, #{error := econnrefused}} = next([connect, stop]) || _ <- lists:seq(1, 5)],
    ?assertMatch([#{severity := warning, metadata := #{error := econnrefused}}],
                 [Event || #{event := [sockpool, connect, stop]} = Event <- kept(Pool, warning)]).

crashes(Config) ->
    Pool = subscribed(Config),
    ok = sockpool:start_pool(Pool, options(Config)),
    _ = next([pool, ready]),
    Crash = fun(How) -> How(sockpool_nif:pool_controller(sockpool_pool:find(Pool))) end,
    true = Crash(fun(Process) -> exit(Process, kill) end),
    {_, #{reason := killed}} = next([pool, crashed]),
    {_, #{reason := restart}} = next([pool, started]),
    _ = next([pool, ready]),
    ok = Crash(fun(Process) -> gen_server:stop(Process, oops, infinity) end),
    {_, #{reason := oops}} = next([pool, crashed]),
    ?assertMatch([_, _], [crashed || #{event := [sockpool, pool, crashed], severity := error} <- kept(Pool, error)]).

%% Why, after how many uses, and whether it was in use.
closed(Config) ->
    Pool = subscribed(Config),
    ok = sockpool:start_pool(Pool, options(#{size => 2, max_overflow => 0}, Config)),
    _ = next([pool, ready]),
    {ok, First} = sockpool:checkout(Pool),
    {ok, Peer} = sockpool:peername(First),
    ok = sockpool:checkin(First),
    timer:sleep(30),
    {ok, Again} = sockpool:checkout(Pool),
    ok = sockpool:discard(Again),
    {#{age := Age, uses := 2, idle_time := 0}, #{reason := discarded, peer := Peer, slot := Slot}} = next([connection, closed]),
    ?assert(Age >= erlang:convert_time_unit(20, millisecond, native)),
    ?assert(is_integer(Slot)),
    wait_until(fun() -> sockpool_test_util:stat(Pool, idle) =:= 2 end),
    timer:sleep(30),
    ok = sockpool:resize(Pool, 1, 0),
    {#{uses := 0, idle_time := Idle}, #{reason := resize}} = next([connection, closed]),
    ?assert(Idle >= erlang:convert_time_unit(20, millisecond, native)),
    ok = sockpool:stop_pool(Pool),
    {_, #{reason := stopped}} = next([connection, closed]).

leak(Config) ->
    Pool = subscribed(Config),
    true = register(?MODULE, self()),
    ok = sockpool:start_pool(Pool, options(#{leak_threshold => 1000}, Config)),
    {ok, Conn} = sockpool:checkout(Pool),
    {ok, Peer} = sockpool:peername(Conn),
    {#{held := Held}, #{owner := Owner, owner_name := ?MODULE, peer := Peer, stacktrace := [{_, _, _, _} | _]}} = next([lease, leak]),
    ?assertEqual(self(), Owner),
    ?assert(Held >= erlang:convert_time_unit(1000, millisecond, native)),
    ok = sockpool:checkin(Conn),
    {#{held := Longer}, #{owner := Owner, peer := Peer}} = next([lease, unleaked]),
    ?assert(Longer >= Held),
    true = unregister(?MODULE).

revoked(Config) ->
    Pool = subscribed(Config),
    ok = sockpool:start_pool(Pool, options(#{max_hold => 50}, Config)),
    {ok, Conn} = sockpool:checkout(Pool),
    {ok, Peer} = sockpool:peername(Conn),
    {#{held := Held}, #{owner := Owner, reason := max_hold, peer := Peer}} = next([lease, revoked]),
    ?assertEqual(self(), Owner),
    ?assert(Held >= erlang:convert_time_unit(50, millisecond, native)).

%% Whoever waits for that long, for what comes of it; and nobody else.
slow_checkout(Config) ->
    Pool = subscribed(Config),
    ok = sockpool:start_pool(Pool, options(#{max_overflow => 0, slow_checkout => 50}, Config)),
    {ok, Conn} = sockpool:checkout(Pool),
    {error, timeout} = sockpool:checkout(Pool, 60),
    {#{duration := Duration, waiting := 0}, #{outcome := timeout}} = next([queue, slow]),
    ?assert(Duration >= erlang:convert_time_unit(50, millisecond, native)),
    Waiter = sockpool_test_util:start(fun() -> {ok, Late} = sockpool:checkout(Pool), sockpool:checkin(Late) end),
    timer:sleep(100),
    ok = sockpool:checkin(Conn),
    ok = sockpool_test_util:await(Waiter),
    {_, #{outcome := granted}} = next([queue, slow]),
    ok = sockpool:update(Pool, #{slow_checkout => infinity}),
    {ok, Again} = sockpool:checkout(Pool),
    {error, timeout} = sockpool:checkout(Pool, 60),
    ok = sockpool:checkin(Again),
    settled(),
    ?assertEqual([], [Event || [_, queue, slow] = Event <- heard()]).

slow_request(Config) ->
    Pool = subscribed(Config),
    ok = sockpool:start_pool(Pool, options(#{max_overflow => 0, slow_checkout => 50}, Config)),
    {ok, Conn} = sockpool:checkout(Pool),
    {error, timeout} = sockpool:request(Pool, "x\n", packet, 60),
    {_, #{outcome := timeout}} = next([queue, slow]),
    Waiter = sockpool_test_util:start(fun() -> sockpool:request(Pool, "x\n", packet, 20000) end),
    timer:sleep(100),
    ok = sockpool:checkin(Conn),
    {ok, <<"x\n">>} = sockpool_test_util:await(Waiter),
    {_, #{outcome := granted}} = next([queue, slow]).

of_a_worker(Config) ->
    Pool = subscribed(Config),
    ok = sockpool:start_pool(Pool, #{worker => {sockpool_test_worker, #{}}, transport => worker, size => 1, leak_threshold => 1000}),
    {_, #{host := undefined, peer := undefined, transport := worker}} = next([connect, stop]),
    {ok, Conn} = sockpool:checkout(Pool),
    {_, #{peer := undefined}} = next([lease, leak]),
    ok = sockpool:checkin(Conn).

checks(Config) ->
    Pool = subscribed(Config),
    Health = #{interval => 100, send => <<"ping\n">>, expect => <<"ping\n">>},
    ok = sockpool:start_pool(Pool, options(#{health => Health}, Config)),
    {_, #{peer := Peer}} = next([connect, stop]),
    {#{duration := Duration}, #{result := ok, peer := Peer}} = next([health, stop]),
    ?assert(Duration > 0).

%% One that answers otherwise, and one that does not answer in time.
failed_check(Config) ->
    Pool = subscribed(Config),
    ok = sockpool:start_pool(Pool, options(#{health => #{interval => 100, send => <<"ping\n">>, expect => <<"pong\n">>}}, Config)),
    {_, #{peer := Peer}} = next([connect, stop]),
    {_, #{result := failed, error := {unexpected, <<"ping\n">>}, peer := Peer}} = next([health, stop]),
    ok = sockpool:update(Pool, #{health => #{interval => 100, timeout => 10, check => fun(_Conn) -> timer:sleep(infinity) end}}),
    ?assertEqual(timeout, failed_by(timeout)).

failed_by(Reason) ->
    case next([health, stop]) of
        {_, #{result := failed, error := Reason, peer := {_, _}}} -> Reason;
        _ -> failed_by(Reason)
    end.

%% When C finds that is tested in C.
stalled(Config) ->
    Pool = subscribed(Config),
    ok = sockpool:start_pool(Pool, options(Config)),
    Peer = {{127, 0, 0, 1}, 9},
    sockpool_nif:pool_controller(sockpool_pool:find(Pool)) ! {sockpool_stalled, Peer, self(), 2, 5, 3000},
    {#{unacked := 2, retransmits := 5, held := Held}, #{peer := Peer, owner := Owner}} = next([connection, stalled]),
    ?assertEqual({3000, self()}, {erlang:convert_time_unit(Held, native, millisecond), Owner}).

filters(Config) ->
    Pool = ?config(pool, Config),
    Emit = fun(Of, Severity, Event) -> sockpool_events:emit(Severity, Event, #{}, #{pool => Of}) end,
    Hears = fun(What) ->
                    {ok, Ref} = sockpool:subscribe(What),
                    [Emit(Of, Severity, Event) || Of <- [Pool, another], Severity <- [info, error], Event <- [[a, b], [a, c], [b]]],
                    ok = Emit(Pool, error, [z]),
                    ok = sockpool:unsubscribe(Ref),
                    heard()
            end,
    ?assertEqual(13, length(Hears(#{}))),
    ?assertEqual(7, length(Hears(Pool))),
    ?assertEqual([[a, b], [a, c], [b], [z]], Hears(#{pool => Pool, severity => warning})),
    ?assertEqual([[a, b], [b], [a, b], [b]], Hears(#{pool => Pool, events => [[a, b], [b]]})),
    ok = Emit(Pool, error, [z]),
    ?assertEqual([], heard()).

%% After an unsubscribe nothing more comes.
heard() ->
    receive {sockpool_event, Event, _, _} -> [Event | heard()] after 0 -> [] end.

nobody_listens(Config) ->
    Pool = ?config(pool, Config),
    ?assertNot(sockpool_events:listens()),
    ok = sockpool_events:emit(debug, [a], #{}, #{pool => Pool}),
    ok = sockpool_events:emit(notice, [b], #{}, #{pool => Pool}),
    settled(),
    ?assertMatch([#{event := [b]}], kept(Pool, debug)).

%% What was sent before to the process is in its table.
settled() ->
    {ok, Ref} = sockpool:subscribe(#{}),
    ok = sockpool:unsubscribe(Ref).

ring(Config) ->
    Pool = ?config(pool, Config),
    [begin
         ok = sockpool_events:emit(notice, [ring], #{number => I}, #{pool => Pool}),
         I rem 500 =:= 0 andalso settled()
     end || I <- lists:seq(1, 2500)],
    settled(),
    Kept = sockpool_events:recent(0, debug),
    High = [Event || #{severity := Severity} = Event <- Kept, Severity =/= debug, Severity =/= info],
    ?assertEqual(lists:seq(1501, 2500), [I || #{measurements := #{number := I}} <- High]),
    #{id := Since} = lists:nth(990, High),
    ?assertEqual(lists:seq(2491, 2500), [I || #{measurements := #{number := I}} <- sockpool_events:recent(Since, notice)]),
    ?assertEqual([], sockpool_events:recent(Since, error)).

%% It does not return before it is told. What is more than 1,000 is not for it, and is counted; all else goes on.
slow_handler(Config) ->
    Pool = subscribed(Config),
    Test = self(),
    ok = sockpool_test_telemetry:load(fun([slow, I], _, _) -> Test ! {handler, self(), I}, receive go_on -> ok end;
                                         (_, _, _) -> ok
                                      end),
    ok = sockpool_events:emit(debug, [slow, begins], #{}, #{pool => Pool}),
    Handler = receive {handler, Pid, begins} -> Pid end,
    Before = sockpool_events:dropped(),
    [begin
         ok = sockpool_events:emit(debug, [slow, goes_on], #{number => I}, #{pool => Pool}),
         receive {sockpool_event, [slow, goes_on], #{number := I}, _} -> ok end
     end || I <- lists:seq(1, 2500)],
    settled(),
    ?assertEqual(1500, sockpool_events:dropped() - Before),
    ok = sockpool:start_pool(Pool, options(Config)),
    _ = next([pool, ready]),
    [{ok, <<"x\n">>} = sockpool:request(Pool, "x\n", packet, 5000) || _ <- lists:seq(1, 1000)],
    ok = sockpool:stop_pool(Pool),
    _ = next([pool, stopped]),
    ?assert(is_process_alive(Handler)),
    exit(Handler, kill).

raising_handler(Config) ->
    Pool = ?config(pool, Config),
    Test = self(),
    ok = sockpool_test_telemetry:load(fun(Event, _, _) -> Test ! {handler, self(), Event}, error(raised) end),
    Handlers = [begin
                    ok = sockpool_events:emit(debug, [raises], #{}, #{pool => Pool}),
                    receive {handler, Pid, [raises]} -> Pid end
                end || _ <- lists:seq(1, 3)],
    ?assertMatch([_], lists:usort(Handlers)).

%% It is started again with the next event, and what it had before it is counted.
handler_that_ends(Config) ->
    Pool = ?config(pool, Config),
    Test = self(),
    ok = sockpool_test_telemetry:load(fun(Event, _, _) -> Test ! {handler, self(), Event}, receive die -> exit(self(), kill) end end),
    Before = {whereis(sockpool_events), sockpool_events:dropped()},
    [ok = sockpool_events:emit(debug, [dies], #{}, #{pool => Pool}) || _ <- lists:seq(1, 10)],
    First = receive {handler, Pid, [dies]} -> Pid end,
    settled(),
    Monitor = monitor(process, First),
    First ! die,
    receive {'DOWN', Monitor, process, First, killed} -> ok end,
    {Process, Dropped} = Before,
    wait_until(fun() -> sockpool_events:dropped() =:= Dropped + 9 end),
    ok = sockpool_events:emit(debug, [lives], #{}, #{pool => Pool}),
    Second = receive {handler, Other, [lives]} -> Other end,
    ?assertNotEqual(First, Second),
    ?assertEqual(Process, whereis(sockpool_events)),
    exit(Second, kill).

dead_subscriber(Config) ->
    Pool = ?config(pool, Config),
    Subscriber = spawn(fun() -> receive stop -> ok end end),
    {ok, _} = sockpool:subscribe(#{}, Subscriber),
    ?assert(sockpool_events:listens()),
    Subscriber ! stop,
    wait_until(fun() -> not sockpool_events:listens() end),
    {ok, _} = sockpool:subscribe(#{}, Subscriber),
    wait_until(fun() -> not sockpool_events:listens() end),
    ok = sockpool_events:emit(notice, [after_it], #{}, #{pool => Pool}).

%% Who does not read its messages loses events, and hears how many; another one hears all.
subscriber_is_behind(Config) ->
    Pool = subscribed(Config),
    Subscriber = spawn(fun behind/0),
    {ok, _} = sockpool:subscribe(Pool, Subscriber),
    [begin
         ok = sockpool_events:emit(debug, [behind], #{number => I}, #{pool => Pool}),
         receive {sockpool_event, [behind], #{number := I}, _} -> ok end
     end || I <- lists:seq(1, 3000)],
    {message_queue_len, Length} = process_info(Subscriber, message_queue_len),
    ?assert(Length =< 1100),
    Subscriber ! {read, self()},
    receive {read, Length} -> ok end,
    ok = sockpool_events:emit(debug, [behind], #{number => 3001}, #{pool => Pool}),
    Subscriber ! {missed, self()},
    ?assertEqual({3000 - Length, 3001}, receive {missed, Missed, Number} -> {Missed, Number} end).

behind() ->
    receive {read, Test} -> Test ! {read, length(heard())} end,
    To = receive {missed, Asker} -> Asker end,
    receive
        {sockpool_event, [sockpool, events, dropped], #{count := Missed}, _} ->
            receive {sockpool_event, [behind], #{number := Number}, _} -> To ! {missed, Missed, Number} end
    end.

%% Its supervisor starts it again; who has subscribed, and what was kept, is there as before, and no pool notices.
process_ends(Config) ->
    Pool = subscribed(Config),
    ok = sockpool:start_pool(Pool, options(Config)),
    _ = next([pool, ready]),
    Controller = sockpool_nif:pool_controller(sockpool_pool:find(Pool)),
    Before = kept(Pool),
    First = whereis(sockpool_events),
    exit(First, kill),
    wait_until(fun() -> lists:member(whereis(sockpool_events), [undefined, First]) =:= false end),
    ok = sockpool:resize(Pool, 2, 0),
    _ = next([pool, resized]),
    ?assertMatch(#{event := [sockpool, pool, resized]}, lists:last(kept(Pool))),
    ?assertEqual(Before, lists:droplast(kept(Pool))),
    ?assertEqual(Controller, sockpool_nif:pool_controller(sockpool_pool:find(Pool))).

%% Who tells of something waits for nobody, and there are never more than so many messages.
process_is_slow(Config) ->
    Pool = subscribed(Config),
    Process = whereis(sockpool_events),
    true = erlang:suspend_process(Process),
    Before = sockpool_events:dropped(),
    [ok = sockpool_events:emit(debug, [slow], #{number => I}, #{pool => Pool}) || I <- lists:seq(1, 1500)],
    ?assertEqual(500, sockpool_events:dropped() - Before),
    ok = sockpool:start_pool(Pool, options(Config)),
    {ok, <<"x\n">>} = sockpool:request(Pool, "x\n", packet, 5000),
    true = erlang:resume_process(Process),
    [receive {sockpool_event, [slow], #{number := I}, _} -> ok end || I <- lists:seq(1, 1000)],
    ok = sockpool:resize(Pool, 2, 0),
    _ = next([pool, resized]).

without_the_application(_Config) ->
    ok = application:stop(sockpool),
    ?assertEqual({error, {not_started, sockpool}}, sockpool:subscribe(#{})),
    ?assertEqual([], sockpool_events:recent(0, debug)),
    ?assertEqual(0, sockpool_events:dropped()),
    ok = sockpool_events:emit(error, [nobody], #{}, #{}),
    ok = sockpool:unsubscribe(make_ref()).

bad_arguments(_Config) ->
    [?assertMatch({{error, {bad_argument, what, What}}, What}, {sockpool:subscribe(What), What})
     || What <- [#{unknown => 1}, #{severity => loud}, #{events => [sockpool]}, #{events => []}, #{events => [[a] | b]}, #{pool => "name"}]],
    {error, {bad_argument, pool, "name"}} = sockpool:subscribe("name"),
    {error, {bad_argument, pid, me}} = sockpool:subscribe(#{}, me),
    {error, {bad_argument, subscription, none}} = sockpool:unsubscribe(none),
    [?assert(is_list(lists:flatten(io_lib:format("~ts", [sockpool:format_error({bad_argument, Name, 1})]))))
     || Name <- [what, pid, subscription]].

%%% The document.

table_of_the_document(_Config) ->
    Rows = [[words(Cell) || Cell <- string:split(string:trim(Line, both, "| "), "|", all)]
            || "| `[sockpool, " ++ _ = Line <- lines("docs/observability.md")],
    ?assertEqual([{Event, Numbers, Facts, severities(Severity)}
                  || {Event, Numbers, Facts, Severity} <- sockpool_event_table:rows()],
                 [{Event, Numbers, Facts, Severities} || [Event, Numbers, Facts, Severities | _] <- Rows]).

severities({One, _Key, Another}) -> [Another, One];
severities(Severity) -> [Severity].

%% What stands in backquotes.
words(Cell) ->
    case re:run(Cell, "`\\[?([a-z_ ,]+)\\]?`", [global, {capture, all_but_first, list}]) of
        {match, Found} -> [list_to_atom(Word) || [Words] <- Found, Word <- string:lexemes(Words, " ,")];
        nomatch -> []
    end.
