%%% @private
%%% What is wrong with a pool, in words: from two readings of what it counts. See sockpool:explain/1.
%%%
%%% Counters say what has happened between the two, gauges how it is at the second. Who waits, and why, is told from how
%%% long leases take: longer than they used to is the server's doing, as long as ever is the pool's; and where none ends,
%%% from what their owners do.
-module(sockpool_verdict).

-export([explain/1, snapshot/1, findings/2]).
-export_type([snapshot/0, finding/0, severity/0, cause/0]).

-type severity() :: ok | notice | warning | error.

-type cause() :: healthy | stopped | crashed
               | host_down | dns | certificate_expired | tls | init | worker | limits | connect
               | leak | dead_owners | slow_server | overload | pool_too_small | connecting
               | long_lease | churn | health.

-type finding() :: #{severity := severity(), cause := cause(), text := binary()}.

%% What one reading gives. `facts' are there only of a pool of this node whose process answers.
-type snapshot() :: #{name := sockpool:pool(), at := Ms :: integer(), clock := UnixMs :: integer(),
                      state := running | stopped | crashed,
                      stats => sockpool:stats(), histograms => sockpool:histograms(), facts => facts()}.

-type facts() :: #{server := string(), transport := atom(), checkout_timeout := timeout(),
                   held := [#{owner := pid(), in_io := boolean()}]}.

-record(view, {name :: string(),
               where :: string(), % its server, or nothing
               ms :: pos_integer(),
               now :: snapshot(),
               before :: snapshot(),
               held :: [#{owner := pid(), in_io := boolean()}]}).

-define(APART_MS, 1000).
%% One whose process does not answer for that long is told of without what only that knows.
-define(FACTS_MS, 500).
%% Of a text that others have written.
-define(TEXT_CHARS, 300).
%% A failure is of now where it is not older.
-define(RECENT_MS, 60000).
%% Somebody waits for that long: that is a trouble in any pool.
-define(LONG_WAIT_MS, 1000).
%% In parts of the time, or of those who came.
-define(SHARE_OF_WAITING, 0.1).
-define(SHARE_TURNED_AWAY, 0.1).
-define(SHARE_OF_DEAD, 0.1).
-define(SHARE_CLOSED, 0.2).
-define(CLOSED_AT_LEAST, 10).
%% Leases take so many times as long as they used to, if that is known from so many, and not less than this.
-define(SLOWER, 3).
-define(KNOWN_FROM, 100).
-define(SLOW_US, 10000).
%% Where nothing is known of before.
-define(SLOW_ANYHOW_US, 250000).

%% @doc Two readings a second apart, and what they say; never nothing: where nothing is wrong, that.
-spec explain(sockpool:pool()) -> {ok, [finding(), ...]} | {error, sockpool:reason()}.
explain(Pool) ->
    case snapshot(Pool) of
        {ok, Before} ->
            receive after pause(Before) -> ok end,
            case snapshot(Pool) of
                {ok, Now} -> {ok, or_healthy(findings(Before, Now), Before, Now)};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

pause(#{state := stopped}) -> 0;
pause(_Running) -> ?APART_MS.

or_healthy([], Before, Now) ->
    [healthy(view(Before, Now))];
or_healthy(Findings, _Before, _Now) ->
    Findings.

%% @doc A reading. A pool that is not there is one, too.
-spec snapshot(sockpool:pool()) -> {ok, snapshot()} | {error, sockpool:reason()}.
snapshot(Pool) ->
    Reading = #{name => Pool, at => erlang:monotonic_time(millisecond), clock => erlang:system_time(millisecond)},
    case sockpool:stats(Pool) of
        {ok, Stats} -> {ok, with_facts(Pool, with_histograms(Pool, Reading#{state => running, stats => Stats}))};
        {error, not_found} -> {ok, Reading#{state => gone(Pool)}};
        {error, _} = Error -> Error
    end.

%% A node in C, or one of before, may have none.
with_histograms(Pool, Reading) ->
    case sockpool:histograms(Pool) of
        {ok, Histograms} -> Reading#{histograms => Histograms};
        {error, _} -> Reading
    end.

with_facts({_Name, Node}, Reading) when Node =/= node() ->
    Reading;
with_facts({Name, _Here}, Reading) ->
    with_facts(Name, Reading);
with_facts(Pool, Reading) ->
    case sockpool_pool:facts(Pool, ?FACTS_MS) of
        {ok, #{held := Held} = Facts} -> Reading#{facts => Facts#{held := [holder(sockpool_leak:holder(Owner)) || Owner <- Held]}};
        {error, _} -> Reading
    end.

%% Who waits for bytes on a connection is in sockpool_wait all the time.
holder(Owner) when node(Owner) =:= node() ->
    Stack = case process_info(Owner, current_stacktrace) of
                {current_stacktrace, Frames} -> Frames;
                undefined -> []
            end,
    #{owner => Owner, in_io => lists:any(fun(Frame) -> element(1, Frame) =:= sockpool_wait end, Stack)};
holder(Owner) ->
    #{owner => Owner, in_io => false}.

gone({_Name, Node}) when Node =/= node() -> stopped;
gone({Name, _Here}) -> gone(Name);
gone(Name) ->
    case sockpool_pool:find(Name) of
        undefined -> stopped;
        Pool -> case sockpool_nif:pool_parent(Pool) of 0 -> stopped; _ -> crashed end
    end.

%% @doc The worst first; none where nothing is wrong. The first reading may be of a pool that was not there yet.
-spec findings(Before :: snapshot(), Now :: snapshot()) -> [finding()].
findings(_Before, #{state := stopped, name := Name}) ->
    [finding(error, stopped, "~ts: no pool of that name runs: it was stopped, or was never started", [name(Name)])];
findings(_Before, #{state := crashed, name := Name}) ->
    [finding(error, crashed, "~ts: the pool's process has crashed: until it is started again nobody gets a connection; the log says why", [name(Name)])];
findings(#{state := running} = Before, Now) ->
    View = view(Before, Now),
    Found = lists:append([Look(View) || Look <- [fun connects/1, fun leaks/1, fun dead_owners/1, fun crowd/1, fun checks/1,
                                                 fun churn/1]]),
    [Finding || Severity <- [error, warning, notice], #{severity := Its} = Finding <- Found, Its =:= Severity];
findings(_NotThereYet, Now) ->
    findings(Now, Now).

view(Before, #{name := Name, at := At} = Now) ->
    Facts = maps:get(facts, Now, #{}),
    #view{name = name(Name),
          where = case Facts of #{server := Server} -> [" (", Server, ")"]; #{} -> "" end,
          ms = max(1, At - maps:get(at, Before)),
          now = Now,
          before = Before,
          held = maps:get(held, Facts, [])}.

healthy(View) ->
    finding(ok, healthy, "~ts: all well: ~b of ~b connections are in use, ~ts",
            [said_name(View), gauge(leased, View), limit(View), served(View)]).

served(View) ->
    case mean(use, View) of
        none -> "and nobody has given one back meanwhile";
        Us -> io_lib:format("~b leases a second of ~ts", [counted(checkins, View) * 1000 div View#view.ms, us(Us)])
    end.

%%% Connecting.

connects(View) ->
    case is_failing(View) of
        true -> [failing(View)];
        false -> []
    end.

%% Between two attempts there may be a pause that is longer than that between the readings.
is_failing(View) ->
    counted(connect_failures, View) > 0
        orelse (up(View) =:= 0 andalso counted(created, View) =:= 0 andalso gauge(connect_failures, View) > 0
                andalso last_error_age_ms(View) =< ?RECENT_MS).

last_error_age_ms(#view{now = #{clock := Clock, stats := #{last_error_at := At}}}) when is_integer(At) -> Clock - At;
last_error_age_ms(_View) -> infinity.

failing(#view{now = #{stats := #{last_error := Last}}} = View) ->
    Cause = cause(Last),
    Severity = case up(View) of 0 -> error; _ -> warning end,
    finding(Severity, Cause, "~ts: ~ts: ~ts; ~ts",
            [said_name(View), no_connection(Cause), cut(sockpool_error:format({unavailable, Last})), outage(View)]).

no_connection(host_down) -> "the server cannot be reached";
no_connection(dns) -> "the server's name is not found";
no_connection(certificate_expired) -> "the server's certificate has expired";
no_connection(tls) -> "TLS fails";
no_connection(init) -> "init fails on new connections";
no_connection(worker) -> "workers do not start";
no_connection(limits) -> "the system has no more of what a connection needs";
no_connection(connect) -> "connecting fails".

outage(View) ->
    Failed = case counted(connect_failures, View) of
                 0 -> io_lib:format("~b attempts have failed since the start", [gauge(connect_failures, View)]);
                 Count -> io_lib:format("~b attempts failed in ~ts", [Count, ms(View#view.ms)])
             end,
    case {up(View), gauge(waiting, View)} of
        {0, 0} -> [Failed, ", and no connection is up"];
        {0, Waiting} -> [Failed, io_lib:format(", no connection is up, and ~b wait", [Waiting])];
        {Up, _} -> [Failed, io_lib:format(", ~b connections are up", [Up])]
    end.

-spec cause(term()) -> cause().
cause({unavailable, Last}) -> cause(Last);
cause({tls, certificate_expired}) -> certificate_expired;
cause({init, _}) -> init;
cause({validate, _}) -> init;
cause({worker, _}) -> worker;
cause(Limit) when Limit =:= system_limit; Limit =:= emfile; Limit =:= enfile; Limit =:= enomem; Limit =:= eaddrnotavail -> limits;
cause(Down) when Down =:= ehostunreach; Down =:= enetunreach; Down =:= ehostdown; Down =:= enetdown; Down =:= closed;
                 Down =:= econnreset; Down =:= enoent -> host_down;
cause(Reason) ->
    case sockpool_reason:class(Reason) of
        dns -> dns;
        tls -> tls;
        Down when Down =:= refused; Down =:= timeout -> host_down;
        _ -> connect
    end.

%%% Owners.

%% Those that were reported, by `leak_threshold'. Where that is off, crowd/1 sees that none comes back.
leaks(#view{held = Held} = View) ->
    case {[Owner || #{owner := Owner, in_io := false} <- Held], [Owner || #{owner := Owner, in_io := true} <- Held], counted(leaked, View)} of
        {[_ | _] = Idle, Busy, _} -> [leak(length(Idle), length(Busy), [", by ", owners(Idle)], View)];
        {[], [_ | _] = Busy, _} -> [long_leases(Busy, View)];
        {[], [], 0} -> [];
        {[], [], Leaked} -> [leak(Leaked, 0, "", View)]
    end.

%% Where most of those who have one for so long wait for the server, that others have to wait is its doing.
leak(Count, InIo, By, View) ->
    Severity = case is_crowded(View) andalso Count >= InIo of true -> error; false -> warning end,
    finding(Severity, leak, "~ts: ~b of ~b connections are leaked, it seems: held for longer than leak_threshold~ts, which do not use "
                            "them~ts", [said_name(View), Count, gauge(total, View), By, waiting(View)]).

long_leases(Owners, View) ->
    finding(notice, long_lease, "~ts: ~b connections are held for longer than leak_threshold, by ~ts, who wait for bytes on them",
            [said_name(View), length(Owners), owners(Owners)]).

owners(Owners) -> lists:join(", ", [io_lib:format("~tp", [Owner]) || Owner <- lists:sublist(Owners, 3)]) ++ [", ..." || length(Owners) > 3].

dead_owners(View) ->
    Dead = counted(abandoned, View) - counted(closed_by, max_hold, View),
    Ended = counted(checkins, View) + counted(abandoned, View),
    case Dead > 0 of
        true -> [dead(Dead, Ended, is_crowded(View), View)];
        false -> []
    end.

dead(Dead, Ended, IsCrowded, View) ->
    Severity = if
                   Dead < Ended * ?SHARE_OF_DEAD -> notice;
                   IsCrowded -> error;
                   true -> warning
               end,
    finding(Severity, dead_owners, "~ts: ~b of ~b leases ended since their owners died, or lost them: what they had used is "
                                   "closed, and made anew~ts; look for what crashes there", [said_name(View), Dead, Ended, waiting(View)]).

%%% Those who wait.

crowd(View) ->
    case is_crowded(View) andalso not is_failing(View) of
        true -> [crowded(View)];
        false -> []
    end.

%% Waiting for a moment in a pool that is busy is nothing. What counts is that somebody got nothing, or waited for long, in
%% itself or beside what he then had the connection for.
is_crowded(View) ->
    turned_away(View) > 0
        orelse gauge(oldest_wait, View) >= ?LONG_WAIT_MS
        orelse (counted(exhausted, View) >= ?SHARE_OF_WAITING * View#view.ms andalso is_long(mean(wait, View), mean(use, View), View)).

is_long(none, _Use, View) -> gauge(waiting, View) > 0;
is_long(Wait, none, _View) -> Wait >= 1000;
is_long(Wait, Use, _View) -> Wait >= 1000 andalso Wait >= Use / 2.

turned_away(View) -> lists:sum([counted(errors, Reason, View) || Reason <- [timeout, full, overloaded]]).

crowded(View) ->
    Severity = case turned_away(View) > 0 orelse gauge(oldest_wait, View) >= ?LONG_WAIT_MS of true -> error; false -> warning end,
    crowded(why_crowded(View), Severity, View).

why_crowded(View) ->
    Use = mean(use, View),
    case {is_growing(View), Use, none_returned(View)} of
        {true, _, _} -> connecting;
        {_, none, true} -> not_returned(View);
        _ ->
            case is_slow(Use, View) of
                true -> slow_server;
                false -> too_many(View)
            end
    end.

%% Not where they are made so fast that it is the leases that take time.
is_growing(View) ->
    gauge(connecting, View) > 0 andalso up(View) < limit(View) andalso gauge(connecting, View) >= up(View)
        andalso takes_longer(mean(connect, View), mean(use, View)).

takes_longer(none, _Use) -> true;
takes_longer(_Connect, none) -> true;
takes_longer(Connect, Use) -> Connect > Use.

%% In all the time that the first of the queue waits: who comes back serves him.
none_returned(View) -> counted(checkins, View) =:= 0 andalso gauge(leased, View) > 0.

%% By what the owners do; where nobody knows them, they were slow before, or they are not.
not_returned(#view{held = [_ | _] = Held}) ->
    case [io || #{in_io := true} <- Held] of
        Io when length(Io) * 2 > length(Held) -> slow_server;
        _ -> leak
    end;
not_returned(_View) ->
    leak.

is_slow(none, _View) ->
    false;
is_slow(Us, View) ->
    case usual(View) of
        none -> Us >= ?SLOW_ANYHOW_US;
        Usual -> Us >= ?SLOW_US andalso Us >= ?SLOWER * Usual
    end.

%% Half of all leases before were shorter.
usual(#view{before = #{histograms := #{use := #{count := Count} = Use, bounds := Bounds}}}) when Count >= ?KNOWN_FROM ->
    sockpool_quantile:of_histogram(0.5, Use, Bounds);
usual(_View) ->
    none.

too_many(View) ->
    Away = turned_away(View),
    case Away > 0 andalso Away >= ?SHARE_TURNED_AWAY * (Away + counted(checkouts, View) + counted(pipelined, View)) of
        true -> overload;
        false -> pool_too_small
    end.

crowded(slow_server, Severity, View) ->
    finding(Severity, slow_server, "~ts: the server is slow: ~ts; ~ts~ts",
            [said_name(View), slowness(mean(use, View), usual(View), View), all_in_use(View), waiting(View)]);
crowded(leak, Severity, View) ->
    finding(Severity, leak, "~ts: none of the ~b connections in use was given back for ~ts: they are leaked, or the server does "
                            "not answer~ts; leak_threshold says in the log who has them",
            [said_name(View), gauge(leased, View), ms(max(View#view.ms, gauge(oldest_wait, View))), waiting(View)]);
crowded(overload, Severity, View) ->
    Away = turned_away(View),
    finding(Severity, overload, "~ts: overload: more is asked for than ~b connections can do: ~b of ~b were turned away in ~ts, ~ts~ts~ts",
            [said_name(View), gauge(total, View), Away, Away + counted(checkouts, View) + counted(pipelined, View), ms(View#view.ms),
             as_ever(View), waiting(View), wanted(View)]);
crowded(pool_too_small, Severity, View) ->
    finding(Severity, pool_too_small, "~ts: the pool is too small: ~ts, ~ts~ts~ts",
            [said_name(View), all_in_use(View), as_ever(View), waiting(View), wanted(View)]);
crowded(connecting, _Severity, View) ->
    finding(warning, connecting, "~ts: ~b connections are up and ~b are being made~ts~ts",
            [said_name(View), up(View), gauge(connecting, View), connect_time(View), waiting(View)]).

slowness(none, _Usual, _View) -> "it does not answer";
slowness(Us, none, _View) -> io_lib:format("a lease takes ~ts", [us(Us)]);
slowness(Us, Usual, _View) -> io_lib:format("a lease takes ~ts, and took ~ts before", [us(Us), us(Usual)]).

all_in_use(View) -> io_lib:format("~b of ~b connections are in use", [gauge(leased, View), gauge(total, View)]).

as_ever(View) ->
    case mean(use, View) of
        none -> "and none was given back";
        Us -> io_lib:format("each for ~ts", [us(Us)])
    end.

connect_time(View) ->
    case mean(connect, View) of
        none -> "";
        Us -> io_lib:format(", which takes ~ts", [us(Us)])
    end.

waiting(View) ->
    case gauge(waiting, View) of
        0 -> "";
        Waiting -> io_lib:format("; ~b wait, the first for ~ts", [Waiting, ms(gauge(oldest_wait, View))])
    end.

%% By Little's law, of those who came in that time.
wanted(View) ->
    Came = counted(checkouts, View) + turned_away(View) + max(0, gauge(waiting, View) - before(waiting, View)),
    case mean(use, View) of
        none -> "";
        Us -> wanted(ceil(Came * Us / 1000 / View#view.ms), gauge(waiting, View), limit(View))
    end.

wanted(Busy, Waiting, Limit) ->
    Wanted = max(Busy, Limit + Waiting),
    io_lib:format("; with ~b, instead of ~b (size, max_overflow), nobody would, if the server can take that", [Wanted, Limit]).

%%% What wears connections out.

checks(View) ->
    case counted(health_failed, View) of
        0 -> [];
        Failed -> [finding(warning, health, "~ts: ~b checks of idle connections failed in ~ts, which are closed",
                           [said_name(View), Failed, ms(View#view.ms)])]
    end.

churn(View) ->
    Closed = counted(closed, View),
    Ended = max(Closed, counted(checkins, View)),
    case Closed >= ?CLOSED_AT_LEAST andalso Closed >= ?SHARE_CLOSED * Ended andalso mostly(View) of
        false -> [];
        Reason when Reason =:= abandoned; Reason =:= stopped; Reason =:= resize -> []; % said already, or meant so
        Reason ->
            [finding(notice, churn, "~ts: connections are not used again: ~b were closed in ~ts, mostly for the reason ~ts, and ~b given back",
                     [said_name(View), Closed, ms(View#view.ms), Reason, counted(checkins, View)])]
    end.

mostly(#view{now = #{stats := #{closed_by := Reasons}}} = View) ->
    {_Count, Reason} = lists:max([{counted(closed_by, Reason, View), Reason} || Reason <- [stopped | maps:keys(Reasons)]]),
    Reason.

%%% Figures.

%% A node of before has fewer.
gauge(Key, #view{now = #{stats := Stats}}) -> maps:get(Key, Stats, 0).
before(Key, #view{before = #{stats := Stats}}) -> maps:get(Key, Stats, 0).

%% A pool that was started anew meanwhile counts from 0.
counted(Key, View) -> max(0, gauge(Key, View) - before(Key, View)).

counted(Key, Reason, #view{now = #{stats := Now}, before = #{stats := Before}}) ->
    Of = fun(Stats) -> maps:get(Reason, maps:get(Key, Stats, #{}), 0) end,
    max(0, Of(Now) - Of(Before)).

up(View) -> gauge(idle, View) + gauge(leased, View).
limit(View) -> gauge(size, View) + gauge(max_overflow, View).

%% Microseconds, of those between the readings.
mean(connect, View) -> mean(fun(#{connect := #{total := Total}}) -> Total end, View);
mean(Key, View) when is_atom(Key) -> mean(fun(Histograms) -> maps:get(Key, Histograms) end, View);
mean(Of, #view{now = #{histograms := Now}, before = #{histograms := Before}}) ->
    #{count := Count, sum := Sum} = Of(Now),
    #{count := CountBefore, sum := SumBefore} = Of(Before),
    case Count - CountBefore of
        New when New > 0 -> max(0, Sum - SumBefore) div New;
        _ -> none
    end;
mean(_Of, _View) ->
    none.

%%% Words.

finding(Severity, Cause, Format, Args) ->
    #{severity => Severity, cause => Cause, text => unicode:characters_to_binary(io_lib:format(Format, Args))}.

said_name(#view{name = Name, where = Where}) -> [Name, Where].

name({Name, Node}) -> io_lib:format("~tp on ~tp", [Name, Node]);
name(Name) when is_atom(Name) -> io_lib:format("~tp", [Name]);
name(Pool) -> io_lib:format("a pool without a name, ~tp", [Pool]).

cut(Text) ->
    Chars = unicode:characters_to_list(Text),
    case length(Chars) > ?TEXT_CHARS of
        true -> lists:sublist(Chars, ?TEXT_CHARS) ++ "...";
        false -> Chars
    end.

us(Us) when Us < 1000 -> io_lib:format("~b us", [Us]);
us(Us) when Us < 10000 -> io_lib:format("~.1f ms", [Us / 1000]);
us(Us) -> ms(Us div 1000).

ms(Ms) when Ms < 1000 -> io_lib:format("~b ms", [Ms]);
ms(Ms) -> io_lib:format("~.1f s", [Ms / 1000]).
