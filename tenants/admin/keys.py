"""The operators' pages about the tenants' API keys: make, replace, revoke."""

import secrets
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.timezone import now
from django.views.decorators.http import require_POST

from tenants.admin.pages import ReadOnlyAdmin, note_each
from tenants.keys import key_of_form, prefix_of, sha256
from tenants.models import ApiKey, Tenant


class ApiKeyForm(forms.ModelForm):
    """Makes one key. Sent again, by a reload or a double click, it makes no other.

    Nothing remembers the key to show it again: only its hash is stored, and that of the same
    form is the same.
    """

    nonce = forms.CharField(
        min_length=43, widget=forms.HiddenInput, initial=lambda: secrets.token_urlsafe(32)
    )

    class Meta:
        model = ApiKey
        fields = ["tenant", "kind", "name"]

    def clean(self) -> dict[str, Any]:
        asked = self.cleaned_data
        if self.errors:
            return asked
        # Locked, so that the second of two clicks finds what the first one made.
        Tenant.objects.select_for_update().get(pk=asked["tenant"].pk)
        kind = ApiKey.Kind(asked["kind"])
        self.key = key_of_form(kind, asked["nonce"], str(asked["tenant"].pk), asked["name"])
        if made := ApiKey.objects.filter(sha256=sha256(self.key)).first():
            raise forms.ValidationError(
                f"This form has made its key, {made}, which can't be shown again. "
                "If nobody wrote it down, revoke it and start a new form."
            )
        self.instance.sha256, self.instance.prefix = sha256(self.key), prefix_of(self.key)
        return asked


API_KEY_COLUMNS = ("prefix", "name", "tenant", "kind", "created_at", "last_used_at", "revoked_at")


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    form = ApiKeyForm
    list_display = API_KEY_COLUMNS
    list_filter = ["kind", ("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant"]
    search_fields = ["prefix", "name", "tenant__slug", "tenant__name"]
    autocomplete_fields = ["tenant"]
    actions = ["revoke"]

    # The two that `ReadOnly` denies everybody; a key itself is never changed.
    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("tenants.add_apikey"))

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("tenants.change_apikey"))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return API_KEY_COLUMNS if obj else ["tenant", "kind", "name", "nonce"]

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Refuse the keys from the next call on, for good."""
        note_each(self, request, queryset.filter(revoked_at=None), "revoked", revoked_at=now())

    # --- making one

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        # The key is shown whichever button is pressed, so there is one.
        one_button = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, {**one_button, **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        request.new_api_key = form.key  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._show_once(request, obj, request.new_api_key)  # type: ignore[attr-defined]

    def _show_once(self, request: HttpRequest, row: ApiKey, key: str) -> HttpResponse:
        """The only answer with the key in it. Not after a redirect: it would wait in a session."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"New {row.kind} key for {row.tenant}",
            "opts": self.opts,
            "row": row,
            "key": key,
        }
        return TemplateResponse(request, "tenants/new_api_key.html", context)

    # --- replacing one

    def get_urls(self) -> list[URLPattern]:
        replace = self.admin_site.admin_view(self.replace)
        return [
            path("<int:key_id>/replace/", replace, name="tenants_apikey_replace"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        button = {"may_replace": self.has_add_permission(request), "replacing": ApiKeyForm()}
        return super().change_view(
            request, object_id, form_url, {**button, **(extra_context or {})}
        )

    @method_decorator(require_POST)
    @transaction.atomic
    def replace(self, request: HttpRequest, key_id: int) -> HttpResponse:
        """Make a key like this one, which works on beside it until somebody revokes it."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        old = get_object_or_404(self.get_queryset(request), pk=key_id, revoked_at=None)
        like_it = {"tenant": old.tenant, "kind": old.kind, "name": old.name}
        form = ApiKeyForm({**like_it, "nonce": request.POST.get("nonce", "")})
        if not form.is_valid():
            problems = [str(problem) for each in form.errors.values() for problem in each]
            self.message_user(request, " ".join(problems), messages.ERROR)
            return redirect(reverse("admin:tenants_apikey_change", args=[old.pk]))
        new = form.save()
        self.log_addition(request, new, f"Added to replace {old}.")
        self.log_change(request, old, f"Replaced by {new}; valid until revoked.")
        return self._show_once(request, new, form.key)
