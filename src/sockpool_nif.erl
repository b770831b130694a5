%%% @private
%%% The functions of priv/sockpool_nif.so. Their arguments are checked by their callers; a wrong one
%%% is a badarg here. What each returns stands over it in c_src/nif/.
-module(sockpool_nif).

-export([pool_new/2, pool_open/4, pool_update/3, pool_changes/1, pool_shut/1, pool_clean_up/1, pool_step/1, pool_tick/2, pool_idle_event/3,
         pool_stats/2, pool_histograms/1, pool_connections/2, pool_want/1, pool_note_error/2, pool_give_up/1, pool_unavailable/1, pool_ready/2, pool_checkout_timeout/1, pool_send_timeout/1,
         pool_controller/1, pool_check/1, pool_kind/1, pool_look/1, pool_listen/2, count/1, pool_retire/1, pool_parent/1, pool_set_parent/2, tls_configure/2, tls_context/2]).
-export([pool_checks/1, check_claim/2, check_passed/1, check_failed/1, check_skipped/1, check_abort/1]).
-export([attempt_claim/2, attempt_begin/5, attempt_opened/2, attempt_worker/2, attempt_handshake/2, attempt_ready/1,
         attempt_resolved/2, attempt_failed/2, attempt_abort/2]).
-export([checkout/1, enqueue/3, enqueue_growing/3, waited/1, cancel/1, checkin/1, checkin_clean/1, discard/2, give_away/2]).
-export([pipe_request/3, pipe_enqueue/4, pipe_look/3, pipe_arm/3, pipe_give_up/3, pipe_place/1, pipe_event/4]).
-export([send/6, recv_ahead/1, take/2, cut/1, set_cut/2, recv/4, request/5, finish/4, disarm/1, park/1, fired/1]).
-export([info/1, worker/1, return_worker/3, node_names/1, node_answer/2, peername/1, sockname/1, setopt/3, send_timeout/1,
         state/1, set_state/3, starttls/2, starttls_handshake/2]).
-export_type([pool/0, lease/0, host/0, place/0, want/0, context/0]).

-on_load(load/0).

-type pool() :: reference().
-opaque lease() :: {sockpool_conn, reference(), non_neg_integer()}.
%% A connection in its owner's hands, or the handle of one who waits for it.

-opaque context() :: reference().
%% A configuration of TLS, for one connection.

-type host() :: binary() | {Host :: binary(), Node :: binary(), OurHost :: binary(), Cookie :: binary()}.
-type failure() :: {error, term()}.
-type want() :: non_neg_integer() | packet | {packet, Shown :: pos_integer()}.

%% What the code server logs. The library that is loaded goes on.
-define(CANNOT_UPGRADE, "this library cannot take over the connections of the one that runs, as what the "
                        "two would share differs; it is loaded when the node is started again").

load() ->
    Path = filename:join(priv_dir(), "sockpool_nif"),
    case erlang:load_nif(Path, 0) of
        ok ->
            ok;
        {error, {upgrade, _}} ->
            {error, {upgrade, ?CANNOT_UPGRADE}};
        {error, {_, Text}} = Error ->
            %% Whoever loads the module hears no more than that it failed.
            ok = persistent_term:put(?MODULE, {library, Path, Text}),
            Error
    end.

priv_dir() ->
    case code:priv_dir(sockpool) of
        {error, bad_name} ->
            filename:join([filename:dirname(code:which(?MODULE)), "..", "priv"]);
        Dir ->
            Dir
    end.

-define(NOT_LOADED, erlang:nif_error(not_loaded)).

%%% The pool's control process.

-spec pool_new(atom(), pos_integer()) -> pool().
pool_new(_Name, _Shards) -> ?NOT_LOADED.

-spec pool_open(pool(), map(), non_neg_integer(), pid() | undefined) ->
          ok | again | gone | {already_started, pid()}.
pool_open(_Pool, _Config, _Seed, _Janitor) -> ?NOT_LOADED.

-spec pool_update(pool(), map(), Changes :: map()) -> ok.
pool_update(_Pool, _Config, _Changes) -> ?NOT_LOADED.

-spec pool_changes(pool()) -> map() | undefined.
pool_changes(_Pool) -> ?NOT_LOADED.

-spec pool_shut(pool()) -> ok | again.
pool_shut(_Pool) -> ?NOT_LOADED.

-spec pool_clean_up(pool()) -> ok | again.
pool_clean_up(_Pool) -> ?NOT_LOADED.

-spec pool_step(pool()) -> {[lease()], More :: boolean(), timeout()}.
pool_step(_Pool) -> ?NOT_LOADED.

-spec pool_tick(pool(), non_neg_integer()) -> non_neg_integer() | {due, timeout()}.
pool_tick(_Pool, _Cursor) -> ?NOT_LOADED.

-spec pool_idle_event(pool(), non_neg_integer(), non_neg_integer()) -> ok.
pool_idle_event(_Pool, _Slot, _Generation) -> ?NOT_LOADED.

-spec pool_stats(pool(), Counted) -> map() | Counted | not_found
              when Counted :: {non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer()}.
pool_stats(_Pool, _Counted) -> ?NOT_LOADED.

-spec pool_histograms(pool()) -> map().
pool_histograms(_Pool) -> ?NOT_LOADED.

-spec pool_connections(pool(), Cursor :: non_neg_integer()) -> {[sockpool_connections:told()], Cursor :: non_neg_integer()}.
pool_connections(_Pool, _Cursor) -> ?NOT_LOADED.

-spec pool_want(pool()) -> {error, full | unavailable}.
pool_want(_Pool) -> ?NOT_LOADED.

-spec pool_note_error(pool(), term()) -> ok.
pool_note_error(_Pool, _Reason) -> ?NOT_LOADED.

-spec pool_give_up(pool()) -> {error, timeout | {unavailable, term()}}.
pool_give_up(_Pool) -> ?NOT_LOADED.

-spec pool_unavailable(pool()) -> {error, {unavailable, term()}}.
pool_unavailable(_Pool) -> ?NOT_LOADED.

-spec pool_ready(pool(), Count :: non_neg_integer()) -> ok | {error, timeout | {unavailable, term()}}.
pool_ready(_Pool, _Count) -> ?NOT_LOADED.

-spec pool_checkout_timeout(pool()) -> timeout().
pool_checkout_timeout(_Pool) -> ?NOT_LOADED.

-spec pool_send_timeout(pool()) -> timeout().
pool_send_timeout(_Pool) -> ?NOT_LOADED.

-spec pool_kind(term()) -> piped | exclusive.
pool_kind(_Term) -> ?NOT_LOADED.

-spec pool_look(pool()) -> {Name :: sockpool_pool:id(), Up :: non_neg_integer(), Waiting :: non_neg_integer(), SlowMs :: timeout()}.
pool_look(_Pool) -> ?NOT_LOADED.

-spec pool_listen(pool(), boolean()) -> ok.
pool_listen(_Pool, _Listened) -> ?NOT_LOADED.

-spec count(pools) -> non_neg_integer().
count(_What) -> ?NOT_LOADED.

-spec pool_retire(pool()) -> boolean().
pool_retire(_Pool) -> ?NOT_LOADED.

-spec pool_parent(pool()) -> non_neg_integer().
pool_parent(_Pool) -> ?NOT_LOADED.

-spec pool_set_parent(pool(), non_neg_integer()) -> ok.
pool_set_parent(_Pool, _Parent) -> ?NOT_LOADED.

-spec pool_controller(pool()) -> pid() | undefined.
pool_controller(_Pool) -> ?NOT_LOADED.

-spec pool_check(pool()) -> sockpool_callback:callback() | undefined.
pool_check(_Pool) -> ?NOT_LOADED.

%% In a dirty scheduler: it reads files.
-spec tls_configure(pool(), map()) -> ok | {error, {Option :: atom(), Why :: atom()}}.
tls_configure(_Pool, _Options) -> ?NOT_LOADED.

%% Likewise.
-spec tls_context(pool(), map()) -> {ok, context()} | {error, {Option :: atom(), Why :: atom()}}.
tls_context(_Pool, _Options) -> ?NOT_LOADED.

%%% A connector.

-spec attempt_claim(lease(), pid()) -> ok | failure().
attempt_claim(_Attempt, _Pid) -> ?NOT_LOADED.

-spec attempt_begin(lease(), binary(), inet:port_number() | local, host(), reference()) ->
          ok | wait | failure().
attempt_begin(_Attempt, _Address, _Port, _Host, _Ref) -> ?NOT_LOADED.

-spec attempt_opened(lease(), reference()) -> ok | wait | handshake | failure().
attempt_opened(_Attempt, _Ref) -> ?NOT_LOADED.

-spec attempt_worker(lease(), pid()) -> ok | failure().
attempt_worker(_Attempt, _Pid) -> ?NOT_LOADED.

%% In a dirty scheduler: it computes for milliseconds.
-spec attempt_handshake(lease(), reference()) -> ok | wait | failure().
attempt_handshake(_Attempt, _Ref) -> ?NOT_LOADED.

-spec attempt_ready(lease()) -> ok | failure().
attempt_ready(_Attempt) -> ?NOT_LOADED.

-spec pool_checks(pool()) -> {[lease()], More :: boolean(), timeout()}.
pool_checks(_Pool) -> ?NOT_LOADED.

-spec check_claim(lease(), pid()) -> ok | failure().
check_claim(_Check, _Pid) -> ?NOT_LOADED.

-spec check_passed(lease()) -> ok | failure().
check_passed(_Check) -> ?NOT_LOADED.

-spec check_failed(lease()) -> ok | failure().
check_failed(_Check) -> ?NOT_LOADED.

-spec check_skipped(lease()) -> ok | failure().
check_skipped(_Check) -> ?NOT_LOADED.

-spec check_abort(lease()) -> ok.
check_abort(_Check) -> ?NOT_LOADED.

-spec attempt_resolved(lease(), Microseconds :: non_neg_integer()) -> ok | failure().
attempt_resolved(_Attempt, _Microseconds) -> ?NOT_LOADED.

-spec attempt_failed(lease(), sockpool_reason:class()) -> ok | failure().
attempt_failed(_Attempt, _Class) -> ?NOT_LOADED.

-spec attempt_abort(lease(), sockpool_reason:class()) -> ok.
attempt_abort(_Attempt, _Class) -> ?NOT_LOADED.

%%% Leases.

-spec checkout(pool()) -> {ok | node, lease()} | {worker | check, lease(), pid()} | again | crowded | empty | failure().
checkout(_Pool) -> ?NOT_LOADED.

-spec enqueue(pool(), reference(), timeout()) -> {wait, lease()} | failure().
enqueue(_Pool, _Ref, _Expiry) -> ?NOT_LOADED.

-spec waited(lease()) -> non_neg_integer().
waited(_Lease) -> ?NOT_LOADED.

%% `{error, full}': it would be for a check-in that the caller waits.
-spec enqueue_growing(pool(), reference(), timeout()) -> {wait, lease()} | failure().
enqueue_growing(_Pool, _Ref, _ExpiryMs) -> ?NOT_LOADED.

-spec cancel(lease()) -> cancelled | told | piped | failure().
cancel(_Lease) -> ?NOT_LOADED.

-spec checkin(term()) -> ok | not_a_conn | failure().
checkin(_Lease) -> ?NOT_LOADED.

-spec checkin_clean(term()) -> ok | not_a_conn | failure().
checkin_clean(_Lease) -> ?NOT_LOADED.

-spec discard(term(), Why :: atom()) -> ok | not_a_conn | failure().
discard(_Lease, _Why) -> ?NOT_LOADED.

-spec give_away(term(), pid()) -> ok | not_a_conn | failure().
give_away(_Lease, _Pid) -> ?NOT_LOADED.

%%% Requests on connections that many have at once.

%% Where a request is.
-type place() :: non_neg_integer().

-spec pipe_request(pool(), binary(), want()) -> place() | exclusive | empty | again | failure().
pipe_request(_Pool, _Data, _Want) -> ?NOT_LOADED.

-spec pipe_enqueue(pool(), reference(), binary(), want()) -> {wait, lease()} | failure().
pipe_enqueue(_Pool, _Ref, _Data, _Want) -> ?NOT_LOADED.

-spec pipe_look(pool(), place(), pos_integer() | fired) -> {ok, binary()} | soon | arm | retry | failure().
pipe_look(_Pool, _Place, _Looks) -> ?NOT_LOADED.

-spec pipe_arm(pool(), place(), reference()) -> {wait, ElapsedMs :: non_neg_integer()} | {ok, binary()} | retry | failure().
pipe_arm(_Pool, _Place, _Ref) -> ?NOT_LOADED.

-spec pipe_give_up(pool(), place(), Sleeps :: boolean()) -> {ok, binary()} | told | failure().
pipe_give_up(_Pool, _Place, _Sleeps) -> ?NOT_LOADED.

-spec pipe_place(lease()) -> place().
pipe_place(_Lease) -> ?NOT_LOADED.

-spec pipe_event(pool(), non_neg_integer(), non_neg_integer(), boolean()) -> ok.
pipe_event(_Pool, _Pipe, _Generation, _IsWrite) -> ?NOT_LOADED.

%%% Bytes.

-spec send(term(), [binary()], non_neg_integer(), boolean(), again | fired, reference()) ->
          ok | {wait | again, [binary()], non_neg_integer()} | many | not_a_conn | failure().
send(_Lease, _Iovec, _Offset, _Framed, _Fired, _Ref) -> ?NOT_LOADED.

-spec recv(term(), want(), first | again | fired, reference()) ->
          {ok, binary()} | {shown, binary()} | soon | wait | again | not_a_conn | failure().
recv(_Lease, _Want, _Attempt, _Ref) -> ?NOT_LOADED.

-spec request(pool(), [binary()], reference(), timeout() | false, want()) ->
          {sent | wait, lease()} | {partial, lease(), [binary()], non_neg_integer()}
          | {broken, lease(), Reason :: term()} | empty | again | many | bad_length | failure().
request(_Pool, _Iovec, _Ref, _Expiry, _Want) -> ?NOT_LOADED.

-spec finish(lease(), want(), first | again | fired, reference()) ->
          {ok, binary()} | {shown, binary()} | soon | wait | again | failure().
finish(_Lease, _Want, _Attempt, _Ref) -> ?NOT_LOADED.

-spec recv_ahead(lease()) -> non_neg_integer() | failure().
recv_ahead(_Lease) -> ?NOT_LOADED.

-spec take(lease(), pos_integer() | bad) -> ok | failure().
take(_Lease, _Bytes) -> ?NOT_LOADED.

-spec cut(lease()) -> sockpool_callback:callback() | undefined | failure().
cut(_Lease) -> ?NOT_LOADED.

-spec set_cut(lease() | term(), sockpool_callback:callback()) -> ok | not_a_conn | failure().
set_cut(_Lease, _Function) -> ?NOT_LOADED.

-spec disarm(lease()) -> cancelled | fired | failure().
disarm(_Lease) -> ?NOT_LOADED.

-spec park(lease()) -> cancelled | fired | failure().
park(_Lease) -> ?NOT_LOADED.

-spec fired(lease()) -> ok | failure().
fired(_Lease) -> ?NOT_LOADED.

%%% Looking.

-spec info(term()) -> {ok, map()} | not_a_conn | failure().
info(_Lease) -> ?NOT_LOADED.

-spec worker(term()) -> pid() | not_a_conn | failure().
worker(_Lease) -> ?NOT_LOADED.

%% Whoever has the worker, and whether it is one that somebody has. Cursor: once more, with that.
-spec return_worker(pool(), pid(), Cursor :: non_neg_integer()) -> ok | pos_integer().
return_worker(_Pool, _Worker, _Cursor) -> ?NOT_LOADED.

-spec node_names(lease()) ->
          {ok, node(), Name :: binary(), Creation :: non_neg_integer(), Max :: pos_integer()}
          | not_a_conn | failure().
node_names(_Lease) -> ?NOT_LOADED.

-spec node_answer(binary(), <<_:96>>) -> binary() | undefined.
node_answer(_Frame, _User) -> ?NOT_LOADED.

-spec peername(term()) -> {ok, term()} | not_a_conn | failure().
peername(_Lease) -> ?NOT_LOADED.

-spec sockname(term()) -> {ok, term()} | not_a_conn | failure().
sockname(_Lease) -> ?NOT_LOADED.

-spec setopt(term(), atom(), term()) -> ok | not_a_conn | failure().
setopt(_Lease, _Key, _Value) -> ?NOT_LOADED.

-spec send_timeout(term()) -> timeout() | not_a_conn | failure().
send_timeout(_Lease) -> ?NOT_LOADED.

%%% The state of a connection.

-spec state(term()) -> {ok, term()} | not_a_conn | failure().
state(_Lease) -> ?NOT_LOADED.

%% Bytes: what it costs to copy the term.
-spec set_state(term(), term(), Bytes :: non_neg_integer()) -> ok | not_a_conn | failure().
set_state(_Lease, _Term, _Bytes) -> ?NOT_LOADED.

%%% TLS over a connection in its course.

-spec starttls(term(), context() | undefined) -> ok | not_a_conn | failure().
starttls(_Lease, _Context) -> ?NOT_LOADED.

%% In a dirty scheduler: it computes for milliseconds.
-spec starttls_handshake(term(), reference()) -> ok | wait | not_a_conn | failure().
starttls_handshake(_Lease, _Ref) -> ?NOT_LOADED.
