%%% @private
%%% Active checks of idle connections, as a part of the pool's process: which are due is decided in C, each is made by a
%%% process of its own, which asks the server and says what it has answered. The pool's process bounds its time by killing
%%% it; its death, for whatever reason, closes the connection.
-module(sockpool_health).

-export([new/0, step/3, peer/3, over/2, ended/4, died/4, checkers/1, check/1, sealed/1, opened/1]).
-export_type([health/0]).

%% Processes that check, and some atoms of this module's. Late: its time is over, it was killed. Said: likewise, but it had
%% just said what came of it. Of each, when it began, and whom it asks, where somebody listens to that.
-type health() :: #{pid() => {Timer :: reference() | late | said, sockpool_nif:lease(), {Began :: integer(), Peer :: term()}},
                      next => reference()}.

%% Of an answer.
-define(ANSWER_BYTES, 64).

-spec new() -> health().
new() -> #{}.

%% @doc Begins what is due, after each step of the pool.
-spec step(sockpool_nif:pool(), sockpool_opts:opts(), health()) -> health().
step(_Pool, #{health := undefined}, Health) ->
    again_in(infinity, Health);
step(Pool, Opts, Health) ->
    {Checks, More, WaitMs} = sockpool_nif:pool_checks(Pool),
    _ = More andalso (self() ! sockpool_wake),
    again_in(WaitMs, lists:foldl(fun(Check, Before) -> begin_check(Check, Opts, Before) end, Health, Checks)).

%% By {timeout, _, sockpool_checks}.
again_in(WaitMs, Health) ->
    _ = case Health of
            #{next := Timer} -> erlang:cancel_timer(Timer);
            #{} -> ok
        end,
    case WaitMs of
        infinity -> maps:remove(next, Health);
        _ -> Health#{next => erlang:start_timer(WaitMs, self(), sockpool_checks)}
    end.

begin_check(Check, #{health := #{timeout := Ms} = How, transport := Transport, packet := Packet}, Health) ->
    Parent = self(),
    Ancestors = [Parent | get('$ancestors')],
    try spawn_link(fun() ->
                           _ = put('$ancestors', Ancestors),
                           checker(Parent, Check, How#{transport => Transport, packet => Packet})
                   end) of
        Pid ->
            %% Not by the process itself: it may be killed before it gets so far.
            ok = sockpool_nif:check_claim(Check, Pid),
            Pid ! {Parent, claimed},
            Health#{Pid => {erlang:start_timer(Ms, self(), {sockpool_check, Pid}), Check, {erlang:monotonic_time(), undefined}}}
    catch
        error:system_limit ->
            ok = sockpool_nif:check_claim(Check, Parent),
            _ = sockpool_nif:check_skipped(Check),
            Health
    end.

-spec checkers(health()) -> [pid()].
checkers(Health) -> [Pid || Pid <- maps:keys(Health), is_pid(Pid)].

%% @doc This one asks that server.
-spec peer(pid(), Peer :: term(), health()) -> health().
peer(Pid, Peer, Health) ->
    case Health of
        #{Pid := {Timer, Check, {Began, _}}} -> Health#{Pid := {Timer, Check, {Began, Peer}}};
        #{} -> Health
    end.

%% @doc The time of this one is over.
-spec over(pid(), health()) -> health().
over(Pid, Health) ->
    case Health of
        #{Pid := {_Timer, Check, Asked}} ->
            true = exit(Pid, kill),
            Health#{Pid := {late, Check, Asked}};
        #{} ->
            Health
    end.

%% @doc This one has said what came of it.
-spec ended(pid(), ok | {error, term()}, sockpool_opts:opts(), health()) -> health().
ended(Pid, Result, Opts, Health) ->
    case Health of
        #{Pid := {late, Check, Asked}} ->
            %% It was killed all the same.
            noted(Result, Asked, Opts, Health#{Pid := {said, Check, Asked}});
        #{Pid := {Timer, _Check, Asked}} ->
            _ = erlang:cancel_timer(Timer),
            noted(Result, Asked, Opts, maps:remove(Pid, Health));
        #{} ->
            Health
    end.

%% @doc One that has died before it could say so.
-spec died(pid(), Reason :: term(), sockpool_opts:opts(), health()) -> health().
died(Pid, Reason, Opts, Health) ->
    case maps:take(Pid, Health) of
        {{said, _Check, _Asked}, Rest} ->
            Rest;
        {{Timer, Check, Asked}, Rest} ->
            ok = sockpool_nif:check_abort(Check),
            _ = Timer =/= late andalso erlang:cancel_timer(Timer),
            Why = case Timer of late -> timeout; _ -> sockpool_reason:of_exit(Reason) end,
            noted({error, Why}, Asked, Opts, Rest)
    end.

noted(Result, {Began, Peer}, #{name := Name} = Opts, Health) ->
    ok = sockpool_told:health(Result, Began, Peer, Name),
    ok = logged(Result, Opts),
    Health.

logged(ok, _Opts) ->
    ok;
logged({error, Reason}, #{name := Name} = Opts) ->
    sockpool_log:log(warning, #{event => check_failed, pool => Name, server => sockpool_opts:server(Opts), reason => Reason}).

%%% In the process that checks.

checker(Parent, Check, How) ->
    receive {Parent, claimed} -> ok end,
    _ = sockpool_events:listens() andalso (Parent ! {?MODULE, self(), peer, peer_of(Check)}),
    Result = case asked(Check, How) of
                 ok ->
                     sockpool_nif:check_passed(Check);
                 {error, badfun} = Error ->
                     %% Its module was loaded twice since: that is not the server's doing.
                     _ = sockpool_nif:check_skipped(Check),
                     Error;
                 {error, _} = Error ->
                     _ = sockpool_nif:check_failed(Check),
                     Error
             end,
    Parent ! {?MODULE, self(), Result}.

peer_of(Check) ->
    case sockpool_nif:peername(Check) of
        {ok, Peer} -> Peer;
        _ -> undefined
    end.

asked(Check, #{check := undefined, send := Send, expect := Expect, timeout := Ms, packet := Packet}) ->
    Deadline = sockpool_wait:deadline(Ms),
    case sockpool:send(Check, Send, Ms) of
        ok -> answered(Check, Packet, Expect, Deadline, <<>>);
        {error, _} = Error -> Error
    end;
asked(Check, #{check := Function, transport := worker}) ->
    case sockpool_nif:worker(Check) of
        Worker when is_pid(Worker) -> called(Function, Worker);
        {error, _} = Error -> Error
    end;
asked(Check, #{check := Function}) ->
    called(Function, Check).

called(Function, Subject) ->
    try sockpool_callback:call(Function, [Subject]) of
        ok -> ok;
        {error, Reason} -> {error, sockpool_reason:bounded(Reason)};
        Other -> {error, {bad_return, sockpool_reason:bounded(Other)}}
    catch
        error:{badfun, Function} -> {error, badfun};
        Class:Reason:Stack -> {error, sockpool_reason:of_exception(Class, Reason, Stack)}
    end.

%% Where messages have no end that is known, in as many pieces as it comes; no longer than it can still be right.
answered(Check, raw, Expect, Deadline, Before) ->
    case sockpool:recv(Check, 0, sockpool_wait:left(Deadline)) of
        {ok, Piece} ->
            Answer = <<Before/binary, Piece/binary>>,
            case may_become(Answer, Expect) of
                true -> answered(Check, raw, Expect, Deadline, Answer);
                false -> is_expected(Answer, Expect)
            end;
        {error, _} = Error ->
            Error
    end;
answered(Check, _Framed, Expect, Deadline, <<>>) ->
    case sockpool:recv(Check, packet, sockpool_wait:left(Deadline)) of
        {ok, Message} -> is_expected(Message, Expect);
        {error, _} = Error -> Error
    end.

may_become(Answer, {prefix, Bytes}) -> may_become(Answer, Bytes);
may_become(Answer, Bytes) ->
    byte_size(Answer) < byte_size(Bytes) andalso binary:longest_common_prefix([Answer, Bytes]) =:= byte_size(Answer).

is_expected(Answer, {prefix, Bytes}) ->
    expected(binary:longest_common_prefix([Answer, Bytes]) =:= byte_size(Bytes), Answer);
is_expected(Answer, Bytes) ->
    expected(Answer =:= Bytes, Answer).

expected(true, _Answer) -> ok;
expected(false, Answer) -> {error, {unexpected, binary:part(Answer, 0, min(?ANSWER_BYTES, byte_size(Answer)))}}.

%%% The option.

-define(DEFAULTS, #{interval => 30000, timeout => 1000, send => undefined, expect => undefined, check => undefined}).
-define(INTERVAL_MIN_MS, 100).
-define(BYTES_MAX, 512).

%% @doc The value of `health', with all that it may have.
-spec check(term()) -> {ok, map()} | error.
check(Given) when is_function(Given); tuple_size(Given) =:= 3 ->
    check(#{check => Given});
check(Given) ->
    case sockpool_given:map(Given, maps:keys(?DEFAULTS)) of
        {ok, Map} -> checked(opened(maps:merge(?DEFAULTS, Map)), map_size(?DEFAULTS));
        error -> error
    end.

%% @doc What is sent may have a password in it, and be shown in a supervisor's report.
-spec sealed(map()) -> map().
sealed(#{check := undefined, send := Send, expect := Expect} = How) ->
    How#{send := sockpool_secret:seal(Send), expect := sockpool_secret:seal(Expect)};
sealed(How) ->
    How.

-spec opened(map()) -> map().
opened(#{send := Send, expect := Expect} = How) when is_function(Send, 0), is_function(Expect, 0) ->
    How#{send := Send(), expect := Expect()};
opened(How) ->
    How.

checked(#{interval := Interval, timeout := Timeout} = How, Size)
  when map_size(How) =:= Size, is_integer(Interval), Interval >= ?INTERVAL_MIN_MS, is_integer(Timeout), Timeout >= 1 ->
    {_Min, Max} = sockpool_option_table:bounds({ms, 0}),
    case Interval =< Max andalso Timeout =< Max andalso How of
        #{send := Send, expect := Expect, check := undefined} -> with_bytes(is_bytes(Send) andalso is_expect(Expect), How);
        #{send := undefined, expect := undefined, check := Function} -> with_function(sockpool_callback:check(Function, 1), How);
        _ -> error
    end;
checked(_How, _Size) ->
    error.

with_bytes(true, How) -> {ok, How};
with_bytes(false, _How) -> error.

with_function({ok, Function}, How) -> {ok, How#{check := Function}};
with_function(error, _How) -> error.

is_expect({prefix, Bytes}) -> is_bytes(Bytes);
is_expect(Bytes) -> is_bytes(Bytes).

is_bytes(Bytes) -> is_binary(Bytes) andalso Bytes =/= <<>> andalso byte_size(Bytes) =< ?BYTES_MAX.
